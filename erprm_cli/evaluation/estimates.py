"""Unbiased estimates for n <= N candidates: pass@n and votes. Best-of-n has its own file.

An estimate for n candidates is the mean over subsets of n of the N candidates (Chen et al. 2021, arXiv
2107.03374, do this for pass@n), which has less variance than a single subset.

Shapes: N candidates, M kinds of weight, G different answers, B budgets (values of n), S subsets.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from erprm_cli.evaluation.arrays import Bools, Floats

RESAMPLES = 200  # error of a vote: below 0.5 / sqrt(200) for one problem, 0.0016 over 500 problems


def pass_at_n(correct: ArrayLike, budgets: Sequence[int]) -> Floats:
    """Return [..., B], how often at least one of n random candidates is correct.

    It is 1 - C(N - c, n) / C(N, n) if c of the N are correct, an upper bound for every way of choosing.
    `correct` is [..., N], booleans.

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
    """Return [M, B], how often the answer with the largest sum of weights among n candidates is correct.

    For one problem: `weights` is [M, N], not negative (all ones: majority vote), `correct` is [N] and
    `classes` is [N], the number of each candidate's answer, -1 for a candidate without one. An answer is as
    correct as its candidates on average. Tied answers are chosen equally often; without any answer the
    choice is wrong. The mean is over all subsets of n if there are at most `resamples` of them (as for n = 1
    and n = N), else over `resamples` random ones.
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
    # The same weights summed in another order differ in the last bits; they count as tied.
    is_top_GMS = votes_GMS >= votes_GMS.max(0) * (1 - 1e-9)
    is_top_GMS &= (member_GN.astype(np.float64) @ mask_NS > 0)[:, None]  # weights may be 0
    tied_MS = is_top_GMS.sum(0)
    won_MS = np.einsum("g,gms->ms", right_G, is_top_GMS) / np.maximum(tied_MS, 1)
    ends = np.cumsum([len(masks) for masks in subsets])[:-1]
    return np.stack([part.mean(1) for part in np.split(won_MS, ends, axis=1)], axis=1)


def _subsets(size: int, budgets: Sequence[int], resamples: int, rng: np.random.Generator) -> list[Bools]:
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
