"""Choosing among N candidates: aggregators, unbiased best-of-n and pass@n, votes, intervals over problems.

An estimate for n <= N candidates is the mean over all subsets of n of the N drawn (Chen et al. 2021,
arXiv 2107.03374, do so for pass@n): exactly for best-of-n and pass@n, over random subsets for votes.
It has no bias and less variance than one subset. Ties: the candidate that is really chosen is the first
of the best; an estimate takes the expectation over a random order of the tied ones.

Shapes: P problems, N candidates, M kinds of weight, G answer classes, B budgets (values of n), S subsets.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

AGGREGATORS: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "last": lambda scores: scores[-1],
    "prod": math.prod,
    "mean": lambda scores: math.fsum(scores) / len(scores),
    "max": max,
}
RESAMPLES = 200  # error of a vote: below 0.5 / sqrt(200) of one problem, 0.0016 over 500 of them
SIGN_FLIPS = 10_000
Z95 = 1.959963984540054


def aggregate(scores: Sequence[float], name: str) -> float:
    """Return the score of a solution from those of its steps; the paper takes "min".

    >>> [aggregate([0.5, 1.0, 0.8], name) for name in ("min", "last", "prod")]
    [0.5, 0.8, 0.4]
    """
    return float(AGGREGATORS[name](scores))


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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems with its 95 % interval; `p` is set where the mean is a difference."""

    value: float
    low: float
    high: float
    problems: int
    p: float | None = None


def mean_over_problems(values: ArrayLike) -> Estimate:
    """Return the mean of values in [0, 1], one per problem, with Wilson's 95 % interval.

    Problems are the independent draws. For values that are all 0 or 1 it is Wilson's interval (1927); an
    estimate over subsets varies less between problems, which counts as more of them: P p (1 - p) / s^2
    in place of P (Korn and Graubard 1998). Near 0 and 1 it stays inside and keeps its width.

    >>> estimate = mean_over_problems([1, 1, 1, 0])
    >>> round(estimate.low, 3), round(estimate.high, 3)
    (0.301, 0.954)
    """
    value_P = np.asarray(values, dtype=np.float64)
    count = len(value_P)
    mean = min(max(float(value_P.mean()), 0.0), 1.0)
    spread, most = float(value_P.var()), mean * (1 - mean)
    share = 1.0 if count == 1 or most == 0 else min(spread / most, 1.0)  # of a 0/1 variable's variance
    z2 = Z95**2 * share / count
    middle = (mean + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * most + z2**2 / 4) / (1 + z2)
    return Estimate(mean, max(middle - half, 0.0), min(middle + half, 1.0), count)


def paired_difference(ours: ArrayLike, theirs: ArrayLike, seed: int = 0) -> Estimate:
    """Return the mean difference over the same problems, its paired t interval (95 %) and p-value.

    p is that of the two-sided sign-flip (permutation) test: how often the mean is as far from 0 when the
    two are exchanged at random in each problem. All exchanges are tried if there are at most `SIGN_FLIPS`,
    else as many random ones. Two equal lists have difference 0 and p = 1. Where few problems differ, the
    interval may leave 0 out although p is above 0.05: then p is the one to go by, as it is exact.
    """
    difference_P = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    count, mean = len(difference_P), float(difference_P.mean())
    error = float(difference_P.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    half = _t975(count - 1) * error if count > 1 else math.inf
    low, high = max(mean - half, -1.0), min(mean + half, 1.0)
    return Estimate(mean, low, high, count, _sign_flip_p(difference_P, seed))


def _sign_flip_p(difference_P: Floats, seed: int) -> float:
    differing = difference_P[difference_P != 0]
    total = differing.sum()
    as_far = abs(total) * (1 - 1e-9)
    if 2 ** len(differing) <= SIGN_FLIPS:
        sums = np.zeros(1)
        for value in differing:
            sums = np.concatenate([sums + value, sums - value])
        return float((abs(sums) >= as_far).mean())
    rng = np.random.default_rng(seed)
    extreme, at_once = 1, 100  # the lists as they are count as one exchange: p is never 0
    for _ in range(SIGN_FLIPS // at_once):
        flipped = rng.integers(0, 2, (at_once, len(differing)), dtype=np.int8)
        extreme += int((abs(total - 2 * (flipped @ differing)) >= as_far).sum())
    return extreme / (SIGN_FLIPS + 1)


def _t975(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, by the series 26.7.5 of Abramowitz and Stegun (1964).

    The series is too small by 0.74 % at 3 degrees of freedom, 0.01 % at 9 and 1e-6 at 30. Why not
    scipy.special.stdtrit: scipy would nearly double the size of an installation for this one number.
    """
    if freedom <= 2:
        return (12.706204736432095, 4.302652729911275)[freedom - 1]
    z = Z95
    return (
        z
        + (z**3 + z) / 4 / freedom
        + (5 * z**5 + 16 * z**3 + 3 * z) / 96 / freedom**2
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / freedom**3
    )
