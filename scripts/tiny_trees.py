"""The solutions of `tiny` as exact trees: every solution of a problem with its probability.

The policy is small and its solutions are short, so all solutions above a small probability can be listed.
They form a tree of steps, and what is otherwise estimated from samples follows from it exactly: success
rates and labels of prefixes, the accuracy of best-of-n for every n, and of the optimal policy at every eta.
The listed solutions lack a little of the probability 1, the field `missing` of a tree; everything else is
computed as if there were no other solutions.

    python scripts/tiny_trees.py -o trees.jsonl tiny:test    # all test problems, in about ten minutes

S solutions of one problem, T temperatures, F unfinished prefixes, V vocabulary, B budgets (values of n)
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from erprm_cli.answers.grader import Grader
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.evaluation.arrays import Floats
from erprm_cli.evaluation.best_of_n import exact_best_of_n
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows
from erprm_cli.labels.estimator import label_of_rate
from erprm_cli.policy.grading import grade
from erprm_cli.policy.prompts import make_prompt
from erprm_cli.policy.templates import PolicyTemplate, load_template
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import split_steps

POLICY = "tiny"
TEMPERATURES = (0.7, 1.0, 1.3)
LEAST = 3e-4
MAX_TOKENS = 160
GROUP = 8  # problems that are enumerated together


class Listed(NamedTuple):
    """A solution: its tokens, with the end token, and their log-probability at each temperature."""

    ids: list[int]
    log_p_T: list[float]


def enumerate_solutions(
    model: Any,
    prompts: Sequence[Sequence[int]],
    temperatures: Sequence[float] = TEMPERATURES,
    least: float = LEAST,
    max_tokens: int = MAX_TOKENS,
) -> list[list[Listed]]:
    """Return the solutions that follow each prompt; the prompts have equal lengths.

    Listed are the solutions of at most `max_tokens` tokens, the end token included, that have at least the
    probability `least` at one of the temperatures.
    """
    import torch  # what follows from the listed solutions needs neither torch nor the policy
    from transformers import DynamicCache

    temperature_T = torch.tensor(temperatures)[:, None]
    cache = DynamicCache()

    @torch.inference_mode()
    def next_logits(ids: Any) -> Any:
        return model(ids, past_key_values=cache).logits[:, -1]

    logits_FV = next_logits(torch.tensor(prompts))
    prefixes: list[tuple[int, list[int]]] = [(number, []) for number in range(len(prompts))]
    log_p_FT = torch.zeros(len(prompts), len(temperatures))
    found: list[list[Listed]] = [[] for _ in prompts]
    for _ in range(max_tokens):
        log_p_FTV = log_p_FT[:, :, None] + (logits_FV[:, None] / temperature_T).log_softmax(-1)
        row_F, token_F = (log_p_FTV >= math.log(least)).any(1).nonzero(as_tuple=True)
        log_p_FT = log_p_FTV[row_F, :, token_F]
        grown = [
            (prefixes[row][0], [*prefixes[row][1], token])
            for row, token in zip(row_F.tolist(), token_F.tolist(), strict=True)
        ]
        is_end_F = token_F == model.config.eos_token_id
        for index in is_end_F.nonzero()[:, 0].tolist():
            number, ids = grown[index]
            found[number].append(Listed(ids, log_p_FT[index].tolist()))
        going = (~is_end_F).nonzero()[:, 0]
        if not len(going):
            break
        prefixes, log_p_FT = [grown[index] for index in going.tolist()], log_p_FT[going]
        if not torch.equal(row_F[going], torch.arange(len(logits_FV))):
            cache.batch_select_indices(row_F[going])
        logits_FV = next_logits(token_F[going, None])
    return found


def list_solutions(problems: Iterable[Row], least: float = LEAST) -> Iterator[Row]:
    """Yield each problem with its `solutions`, not in order: problems with equally long prompts go together.

    A solution has its `steps`, the number of tokens of each step (`num_tokens`, with the line break or the
    end token), its `reward` and its log-probability at each of TEMPERATURES (`log_probs`).
    """
    import torch

    from erprm_cli.models.loading import load_causal_lm, load_tokenizer

    model = load_causal_lm(POLICY, dtype=torch.float32).eval()
    tokenizer, template = load_tokenizer(POLICY), load_template(POLICY)
    by_length: dict[int, list[tuple[Row, tuple[int, ...]]]] = defaultdict(list)
    for problem in problems:
        prompt = make_prompt(template, tokenizer, problem["problem"])
        assert isinstance(prompt, tuple)  # token ids, as there is a tokenizer
        by_length[len(prompt)].append((problem, prompt))
    with Grader() as grader:
        for members in by_length.values():
            for begin in range(0, len(members), GROUP):
                group = members[begin : begin + GROUP]
                listed = enumerate_solutions(model, [prompt for _, prompt in group], least=least)
                for (problem, _), found in zip(group, listed, strict=True):
                    rows = [_solution_row(one, problem, tokenizer, template, grader) for one in found]
                    yield problem | {"temperatures": list(TEMPERATURES), "solutions": rows}


def _solution_row(
    listed: Listed, problem: Row, tokenizer: Any, template: PolicyTemplate, grader: Grader
) -> Row:
    texts = [tokenizer.decode(token) for token in listed.ids]
    text = "".join(texts[:-1])
    assert not any(stop in text for stop in template.stop)  # so unlikely that no listed solution has one
    reward = grade(text, True, problem["answer"], template, grader)[1].reward()
    steps, num_tokens = split_steps(text, template.step_break), step_lengths(texts)
    assert len(steps) == len(num_tokens)
    return {"steps": steps, "num_tokens": num_tokens, "reward": reward, "log_probs": listed.log_p_T}


def step_lengths(tokens: Sequence[str]) -> list[int]:
    """Return the number of tokens of each line of a text that is given by the texts of its tokens.

    A line break belongs to the line that it ends, and so do empty lines.

    >>> step_lengths(["2", "+", "3.\\n", "\\n", "5", "</s>"])
    [4, 2]
    """
    lengths, length = [], 0
    for index, token in enumerate(tokens):
        length += 1
        last = index == len(tokens) - 1
        if last or (token.endswith("\n") and tokens[index + 1].strip("\n")):
            lengths.append(length)
            length = 0
    return lengths


@dataclass(slots=True)
class Node:
    """The first steps of solutions, or a whole solution, which has no children.

    `probability` is that of a solution which begins so; `rate` the share of these solutions that are
    correct: the exact success rate, and for a whole solution its reward. `num_tokens` counts the tokens that
    the policy writes for all the steps.
    """

    steps: tuple[str, ...]
    num_tokens: int
    probability: float = 0.0
    rate: float = 0.0
    children: dict[str, "Node"] = field(default_factory=dict)

    def label(self, eta: float) -> float:
        """Return the exact process reward at eta."""
        return label_of_rate(min(self.rate, 1.0), eta)


class Tree:
    """The solutions of one problem at one temperature."""

    def __init__(self, row: Row, temperature: float) -> None:
        """Build the tree from a row of `list_solutions`."""
        place = row["temperatures"].index(temperature)
        self.id, self.problem, self.temperature = row["id"], row["problem"], temperature
        probability_S = np.exp([solution["log_probs"][place] for solution in row["solutions"]])
        self.missing = 1 - probability_S.sum()
        self.root = Node((), 0)
        self.solutions: list[Node] = []
        for solution, probability in zip(row["solutions"], probability_S / probability_S.sum(), strict=True):
            self._add(solution, float(probability))
        self.nodes = [self.root]  # a parent comes before its children
        for node in self.nodes:
            self.nodes += node.children.values()
            node.rate /= node.probability

    def _add(self, solution: Row, probability: float) -> None:
        node, steps = self.root, solution["steps"]
        for count in range(len(steps) + 1):
            node.probability += probability
            node.rate += probability * solution["reward"]
            if count == len(steps):
                break
            # A whole solution and the same text as the beginning of another one are two nodes.
            key = steps[count] + END * (count == len(steps) - 1)
            if key not in node.children:
                num_tokens = node.num_tokens + solution["num_tokens"][count]
                node.children[key] = Node(tuple(steps[: count + 1]), num_tokens)
                if count == len(steps) - 1:
                    self.solutions.append(node.children[key])
            node = node.children[key]

    def path(self, solution: Node) -> list[Node]:
        """Return the prefixes of a solution, from its first step to itself."""
        nodes, steps = [self.root], solution.steps
        for index, step in enumerate(steps):
            nodes.append(nodes[-1].children[step + END * (index == len(steps) - 1)])
        return nodes[1:]

    def prefixes(self) -> list[Node]:
        """Return all prefixes, whole solutions too, in the order in which the solutions have them."""
        return list({id(node): node for one in self.solutions for node in self.path(one)}.values())

    @property
    def probability_S(self) -> Floats:
        """The probability of each solution."""
        return np.array([solution.probability for solution in self.solutions])

    @property
    def reward_S(self) -> Floats:
        """The reward of each solution."""
        return np.array([solution.rate for solution in self.solutions])

    def best_of_n(self, scores: ArrayLike, budgets: Sequence[int]) -> Floats:
        """Return [B], how often the solution with the highest of `scores` [S] among n samples is correct."""
        return exact_best_of_n(self.probability_S, scores, self.reward_S, budgets)

    def optimal_accuracy(self, eta: float) -> float:
        """Return the accuracy of a sample of the optimal policy, pi0 e^(eta r) / Z."""
        return optimal_accuracy(min(self.root.rate, 1.0), eta)


END = "\0"  # marks the last step of a whole solution


def optimal_accuracy(rate: float, eta: float) -> float:
    """Return p e^eta / (1 - p + p e^eta): the accuracy of the optimal policy, from that of the policy.

    >>> round(optimal_accuracy(0.5220, eta=2), 3)
    0.89
    """
    return rate / (rate + (1 - rate) * math.exp(-eta)) if rate else 0.0


def read_trees(path: Path, temperature: float, least: float = 0.0) -> list[Tree]:
    """Return the trees of the problems in a file of `list_solutions`.

    Left out are solutions that have less than the probability `least` at every temperature.
    """
    with path.open() as file:
        return [Tree(_without_unlikely(json.loads(line), least), temperature) for line in file]


def _without_unlikely(row: Row, least: float) -> Row:
    likely = [one for one in row["solutions"] if math.exp(max(one["log_probs"])) >= least]
    return row | {"solutions": likely}


def main() -> None:
    """Write the solutions of problems, those left out that the file has already."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problems", help="tiny:test, tiny:train or a file")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-L", "--limit", type=int, help="the first problems only")
    parser.add_argument(
        "--least", type=float, default=LEAST, help="probability below which a solution is not listed"
    )
    args = parser.parse_args()
    write_trees(args.problems, args.output, args.limit, args.least)


def write_trees(problems: str, path: Path, limit: int | None = None, least: float = LEAST) -> None:
    """Add the solutions of the first `limit` problems to the file `path`, if it does not have them."""
    done = {json.loads(line)["id"] for line in path.open()} if path.exists() else set()
    rows = [row for row in read_rows(problems, as_problem, BadRows(), limit) if row["id"] not in done]
    with path.open("a") as file:
        for row in list_solutions(rows, least):
            file.write(json.dumps(row) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
