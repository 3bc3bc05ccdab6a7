"""Choosing among N candidates: aggregators, unbiased best-of-n and pass@n, votes, intervals over problems.

An estimate for n <= N candidates is the mean over all subsets of n of the N drawn (Chen et al. 2021,
arXiv 2107.03374, do so for pass@n): exactly for best-of-n and pass@n, over random subsets for votes.
It has no bias and less variance than one subset. Ties: the candidate that is really chosen is the first
of the best; an estimate takes the expectation over a random order of the tied ones.

Shapes: P problems, N candidates, M kinds of weight, G answer classes, B budgets (values of n), S subsets.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
RESAMPLES = 200  # error of a vote: below 0.5 / sqrt(200) of one problem, 0.0016 over 500 of them


def draw_weights(num_candidates: int, n: int) -> Floats:
    """Return, for ranks 1 .. N, the probability that it is the highest rank in a random subset of n.

    C(r - 1, n - 1) / C(N, n), by the ratio of neighbours, so that nothing overflows.

    >>> draw_weights(4, 2).round(4).tolist()
    [0.0, 0.1667, 0.3333, 0.5]
    """
    if not 1 <= n <= num_candidates:
        raise ValueError(f"n is {n}, outside 1 .. {num_candidates}")
    rank = np.arange(num_candidates - 1, 0, -1)
    falling = np.cumprod(np.concatenate([[n / num_candidates], np.maximum(rank - n + 1, 0) / rank]))
    return falling[::-1]


def best_of_n(scores: ArrayLike, correct: ArrayLike, budgets: Sequence[int]) -> Floats:
    """Return how often the highest score among n random candidates is correct.

    `scores` is [..., N] and `correct` (booleans, or numbers) has a shape that broadcasts to it; the result
    is [..., B]. Exact over all subsets, by the rank that each candidate holds (`draw_weights`).

    >>> best_of_n([0.1, 0.9, 0.5], [0, 1, 0], [1, 2, 3]).round(4).tolist()
    [0.3333, 0.6667, 1.0]
    """
    score = np.asarray(scores, dtype=np.float64)
    right = np.broadcast_to(np.asarray(correct, dtype=np.float64), score.shape)
    order = score.argsort(axis=-1)
    score = np.take_along_axis(score, order, -1)
    right = np.take_along_axis(right, order, -1)
    is_new = np.ones(score.shape, dtype=bool)
    is_new[..., 1:] = score[..., 1:] != score[..., :-1]
    tie = is_new.ravel().cumsum() - 1  # ties lie together; all of one are chosen equally often
    right = (np.bincount(tie, right.ravel()) / np.bincount(tie))[tie].reshape(score.shape)
    weight_BN = np.array([draw_weights(score.shape[-1], n) for n in budgets])
    return np.asarray(right @ weight_BN.T)


def pass_at_n(correct: ArrayLike, budgets: Sequence[int]) -> Floats:
    """Return how often any of n random candidates is correct: 1 - C(N - c, n) / C(N, n) with c correct.

    `correct` is [..., N] booleans; the result is [..., B]. It bounds every way of choosing.

    >>> pass_at_n([True, False, False, False], [1, 2, 4]).tolist()
    [0.25, 0.5, 1.0]
    """
    right = np.asarray(correct, dtype=bool)
    size = right.shape[-1]
    left = np.arange(size, 0, -1)
    # all_wrong[c] = product over j < c of (N - j - n) / (N - j), one more correct candidate at a time
    all_wrong_BC = np.array(
        [np.cumprod(np.concatenate([[1.0], np.maximum(left - n, 0) / left])) for n in budgets]
    )
    return 1.0 - np.moveaxis(all_wrong_BC[:, right.sum(-1)], 0, -1)


def votes_at_n(
    weights: ArrayLike,
    correct: ArrayLike,
    classes: ArrayLike,
    budgets: Sequence[int],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Floats:
    """Return how often the answer class with the largest sum of weights among n candidates is correct.

    For one problem: `weights` is [M, N] and not negative (ones make the majority vote), `correct` is [N]
    and `classes` is [N], integers, -1 for a candidate that votes for nobody. The result is [M, B].
    A class is as correct as the mean of its members; if nobody votes, the choice is wrong. Exact where
    there are no more subsets than `resamples` (n = 1 and n = N among them), else the mean over random ones.
    """
    weight_MN = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    class_N = np.asarray(classes)
    member_GN = np.unique(class_N[class_N >= 0])[:, None] == class_N
    if not len(member_GN):
        return np.zeros((len(weight_MN), len(budgets)))
    right_G = member_GN @ np.asarray(correct, dtype=np.float64) / member_GN.sum(1)
    subsets = _subsets(len(class_N), budgets, resamples, rng)
    mask_NS = np.concatenate(subsets).T.astype(np.float64)
    votes_GMS = (member_GN[:, None] * weight_MN) @ mask_NS
    # sums of equal weights in another order differ in the last bits: those are ties
    is_top_GMS = votes_GMS >= votes_GMS.max(0) * (1 - 1e-9)
    is_top_GMS &= (member_GN.astype(np.float64) @ mask_NS > 0)[:, None]  # weights may be 0
    tied_MS = is_top_GMS.sum(0)
    won_MS = np.einsum("g,gms->ms", right_G, is_top_GMS) / np.maximum(tied_MS, 1)
    ends = np.cumsum([len(masks) for masks in subsets])[:-1]
    return np.stack([part.mean(1) for part in np.split(won_MS, ends, axis=1)], axis=1)


def _subsets(
    size: int, budgets: Sequence[int], resamples: int, rng: np.random.Generator
) -> list[NDArray[np.bool_]]:
    """Return for each n the subsets as masks [S, N]: all of them, or the first n of random orders."""
    rank_SN = rng.random((resamples, size)).argsort(1)
    subsets = []
    for n in budgets:
        if math.comb(size, n) <= resamples:
            chosen = np.array(list(combinations(range(size), n)))
            mask_SN = np.zeros((len(chosen), size), dtype=bool)
            np.put_along_axis(mask_SN, chosen, True, axis=1)
        else:
            mask_SN = rank_SN < n
        subsets.append(mask_SN)
    return subsets
