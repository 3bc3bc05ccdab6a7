"""Search on exact trees of `tiny`: the methods of `erprm search`, with table look-ups for policy and PRM.

A search method asks for extensions of prefixes (erprm_cli/search/prefix.py). Here they come from the listed
solutions of a problem (tiny_trees.py), drawn with their exact probabilities, and their scores from a PRM that
has read every solution once. So thousands of searches take seconds, and run the very code of the command.

A greedy step is the most probable one, whereas `erprm search` takes the most probable token each time.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tiny_trees import Node, Tree

from erprm_cli.answers.extraction import extract
from erprm_cli.policy.templates import load_template
from erprm_cli.search.prefix import Found, Prefix, Search, Value

if TYPE_CHECKING:
    from erprm_cli.prm.scorer import Scorer  # loads torch

Key = tuple[str, tuple[str, ...]]  # the id of a problem and the steps of a solution
Reading = tuple[tuple[float, ...], tuple[int, ...]]  # per step of a solution: its score, PRM tokens so far


class Answered(NamedTuple):
    """What one search found, and the tokens that it used.

    `prm` counts every prefix that the PRM read as a whole, as `erprm search` does, `prm_new` only the tokens
    that it had not read before.
    """

    found: Found
    generated: int
    prm: int
    prm_new: int


@dataclass(slots=True)
class _Place:
    """A prefix of the tree, and how it goes on."""

    node: Node
    prefix: Prefix
    prm_tokens: int  # that the PRM reads for this prefix
    children: list[int]  # places
    cumulated: list[float]  # probabilities of the children
    likeliest: int = -1


class Playground:
    """The tree of one problem, with the scores of one PRM."""

    def __init__(self, tree: Tree, readings: Sequence[Reading]) -> None:
        """Take the readings of the solutions of the tree, in their order."""
        self.tree = tree
        self.places: list[_Place] = []
        self.answers: dict[int, str | None] = {}  # of whole solutions, by place
        read: dict[tuple[str, ...], Reading] = {
            node.steps: reading for node, reading in zip(tree.solutions, readings, strict=True)
        }
        self._add(tree.root, read)

    def _add(self, node: Node, read: dict[tuple[str, ...], Reading]) -> Reading:
        """Add the places of a node and of what follows it; return the reading of a solution below it."""
        number, count = len(self.places), len(node.steps)
        self.places.append(_Place(node, Prefix(), 0, [], []))
        reading = read.get(node.steps) if not node.children else None
        children = []
        for child in node.children.values():
            children.append(len(self.places))
            reading = self._add(child, read)
        assert reading is not None
        text = "\n".join(node.steps) + "\n" * bool(node.children and count)
        place = self.places[number]
        place.children = children
        place.prefix = Prefix(
            text,
            (number,),  # a name in place of tokens, by which the prefix is found again
            node.num_tokens,
            node.steps,
            reading[0][:count],
            None if node.children else "stop",
        )
        place.prm_tokens = reading[1][count - 1] if count else 0
        if children:
            weights = [self.places[child].node.probability for child in children]
            place.cumulated = [part / node.probability for part in accumulate(weights)]
            place.likeliest = children[max(range(len(children)), key=weights.__getitem__)]
        else:
            self.answers[number] = extract(text, RULES)
        return reading

    def place(self, prefix: Prefix) -> int:
        """Return the number of the place of a prefix."""
        return prefix.token_ids[0] if prefix.token_ids else 0

    def reward(self, prefix: Prefix) -> float:
        """Return the reward of a whole solution, the exact success rate of another prefix."""
        return self.places[self.place(prefix)].node.rate

    def exact_value(self, prefix: Prefix, eta: float) -> float:
        """Return the process reward at eta; of a whole solution, its reward, as a verifier gives it."""
        return self.places[self.place(prefix)].node.label(eta)

    def limit(self, value: Value, eta: float) -> float:
        """Return the accuracy of a draw from pi0 e^(eta v), v the value of a whole solution: SMC's target."""
        ends = [self.places[number] for number in self.answers]
        weight_S = np.array([end.node.probability * exp(eta * value(end.prefix)) for end in ends])
        return float(weight_S @ [end.node.rate for end in ends] / weight_S.sum())

    def answer(self, prefix: Prefix) -> str | None:
        """Return the answer of a whole solution."""
        return self.answers[self.place(prefix)]

    def play(self, search: Search, random: Random) -> Answered:
        """Answer a search to its end."""
        places, generated, prm, read = self.places, 0, 0, set[int]()
        prm_new = 0
        try:
            asked = next(search)
            while True:
                answers = []
                for prefix, _, reach in asked:
                    before = place = places[self.place(prefix)]
                    while place.children:
                        if reach == "greedy step":
                            number = place.likeliest
                        else:
                            index = bisect_right(place.cumulated, random.random())
                            number = place.children[min(index, len(place.children) - 1)]
                        parent, place = place, places[number]
                        if number not in read:
                            read.add(number)
                            prm_new += place.prm_tokens - parent.prm_tokens
                            if reach != "end":
                                prm += place.prm_tokens
                            elif not place.children:
                                prm += place.prm_tokens
                        if reach != "end":
                            break
                    generated += place.prefix.num_tokens - before.prefix.num_tokens
                    answers.append(place.prefix)
                asked = search.send(answers)
        except StopIteration as stop:
            return Answered(stop.value, generated, prm, prm_new)


RULES = load_template("tiny").answers


def exact_readings(trees: Iterable[Tree]) -> dict[Key, Reading]:
    """Return the readings of a PRM whose scores are exact success rates; its tokens are not counted."""
    found = {}
    for tree in trees:
        rates = {node.steps: min(node.rate, 1.0) for node in tree.nodes if node.children}
        for node in tree.solutions:
            prefixes = [node.steps[:count] for count in range(1, len(node.steps))]
            scores = (*(rates[prefix] for prefix in prefixes), node.rate)
            found[tree.id, node.steps] = scores, (0,) * len(scores)
    return found


def read_solutions(trees: Iterable[Tree], scorer: "Scorer") -> dict[Key, Reading]:
    """Return the reading of each solution of the trees, by the id of the problem and the steps."""
    rows = [
        {"id": tree.id, "problem": tree.problem, "steps": list(node.steps)}
        for tree in trees
        for node in tree.solutions
    ]
    encoded = [(row, scorer.encode(row)) for row in rows]
    tokens = {(row["id"], tuple(row["steps"])): tagged.tags for row, tagged in encoded}
    found = {}
    for row in scorer.score_encoded(encoded):
        key = row["id"], tuple(row["steps"])
        found[key] = tuple(row["scores"]), tuple(int(tag) + 1 for tag in tokens[key])
    return found
