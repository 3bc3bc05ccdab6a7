"""The scores that a reward model gives to all prefixes of exact trees, with every shared token read once.

The solutions of a problem share the problem and their first steps. They are read as one sequence: a trie of
their tokens, in which a token attends only to those before it in its own solutions. The scores are those of
`erprm score`, up to rounding, for about a third of its work.

B tries, T tokens of a trie (padded), N tags
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tiny_trees import Tree

from erprm_cli.evaluation.arrays import Floats
from erprm_cli.models.outputs import flat_positions, output_at, pad
from erprm_cli.prm.scorer import Scorer, batches_by_length, good_probability
from erprm_cli.prm.tagger import Tagger

BATCH_TOKENS = 1_024  # per forward pass


@dataclass(frozen=True, slots=True)
class TokenTrie:
    """The solutions of one problem as a sequence of tokens; a token comes after the one that it follows."""

    ids: NDArray[np.int32]  # [T]
    position: NDArray[np.int32]  # [T], the number of tokens before it
    sees: NDArray[np.bool_]  # [T, T], whether a token attends to another one
    tags: NDArray[np.int32]  # [N], where the prefixes are scored, in the order of `Tree.prefixes`


def token_trie(tree: Tree, tagger: Tagger) -> TokenTrie:
    """Return the tokens of all solutions of a tree."""
    place: dict[tuple[int, int], int] = {}  # of a token, by the place of the one before and its id
    tag_of: dict[int, int] = {}  # by the id() of a prefix
    for solution in tree.solutions:
        tagged = tagger.encode(tree.problem, solution.steps)
        path, before = [], -1
        for token in tagged.ids.tolist():
            before = place.setdefault((before, token), len(place))
            path.append(before)
        tag_of |= {id(node): path[tag] for node, tag in zip(tree.path(solution), tagged.tags, strict=True)}
    position, sees = np.zeros(len(place), np.int32), np.eye(len(place), dtype=bool)
    for (before, _), own in place.items():
        if before >= 0:
            position[own] = position[before] + 1
            sees[own] |= sees[before]
    ids = np.array([token for _, token in place], np.int32)
    tags = np.array([tag_of[id(node)] for node in tree.prefixes()], np.int32)
    return TokenTrie(ids, position, sees, tags)


@torch.inference_mode()
def tree_scores(scorer: Scorer, tries: Sequence[TokenTrie]) -> list[Floats]:
    """Return P(good) [N] of the prefixes of each trie."""
    found: dict[int, Floats] = {}
    for chosen in batches_by_length([len(trie.ids) for trie in tries], BATCH_TOKENS):
        batch = [tries[index] for index in chosen]
        ids_BT = pad([trie.ids for trie in batch])
        width = ids_BT.shape[1]
        sees_BTT = torch.eye(width, dtype=torch.bool).repeat(len(batch), 1, 1)  # padding sees itself
        for row, trie in enumerate(batch):
            sees_BTT[row, : len(trie.ids), : len(trie.ids)] = torch.from_numpy(trie.sees)
        with output_at(
            scorer.model, flat_positions([trie.tags for trie in batch], width), scorer.tagger.rows
        ):
            logits_NR = scorer.model(
                input_ids=ids_BT,
                position_ids=pad([trie.position for trie in batch]),
                attention_mask=sees_BTT[:, None],
                use_cache=False,
            ).logits
        good_N = good_probability(scorer.prm_format, logits_NR).double().numpy()
        ends = np.cumsum([len(trie.tags) for trie in batch])[:-1]
        found |= dict(zip(chosen, np.split(good_N, ends), strict=True))
    return [found[index] for index in range(len(tries))]
