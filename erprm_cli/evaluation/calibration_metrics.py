"""Calibration metrics: Brier score, calibration error, reliability diagram, area under the ROC curve.

A score is compared with its target: a rate k/K of right completions, a label, or an outcome of 0 or 1.

Shapes: N steps (or solutions).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from erprm_cli.evaluation.arrays import Floats
from erprm_cli.evaluation.resampling import middle_95

BINS = 10
RESAMPLES = 400  # bootstrap samples for an interval


@dataclass(frozen=True, slots=True)
class Bin:
    """The scores in [low, high) (the last bin includes 1): their count, mean score and mean target.

    `target_low` and `target_high` are the means of the ends of the targets' intervals, if these are known:
    bounds of the mean target even if all targets err in the same direction.
    """

    low: float
    high: float
    count: int
    score: float
    target: float
    target_low: float | None = None
    target_high: float | None = None


def brier(score: ArrayLike, target: ArrayLike) -> float:
    """Return the mean squared difference (Brier 1950); 0 is best.

    Against rates of K completions, even the true probabilities p have mean p (1 - p) / K, not 0. Raises
    ValueError unless there are N > 0 scores in [0, 1], each with a target; so do the other metrics.

    >>> brier([0.5, 1.0], [0.0, 1.0])
    0.125
    """
    score_N, target_N = _pair(score, target)
    return float(((score_N - target_N) ** 2).mean())


def reliability(
    score: ArrayLike, target: ArrayLike, bins: int = BINS, interval: ArrayLike | None = None
) -> list[Bin]:
    """Return the non-empty bins of equal width, from the lowest scores to the highest.

    `interval` [N, 2] holds the ends of the interval of each target, NaN if unknown.

    >>> for part in reliability([0.1, 0.3, 0.9], [0.0, 1.0, 1.0], bins=2):
    ...     print(part.low, part.high, part.count, part.score, part.target)
    0.0 0.5 2 0.2 0.5
    0.5 1.0 1 0.9 1.0
    """
    score_N, target_N = _pair(score, target)
    interval_N2 = np.full((len(score_N), 2), np.nan) if interval is None else np.asarray(interval, float)
    bin_N = np.minimum((score_N * bins).astype(int), bins - 1)
    found = []
    for number in np.unique(bin_N).tolist():
        inside = bin_N == number
        ends: list[float] = interval_N2[inside].mean(0).tolist()
        low, high = (None if math.isnan(end) else end for end in ends)
        means = float(score_N[inside].mean()), float(target_N[inside].mean())
        found.append(Bin(number / bins, (number + 1) / bins, int(inside.sum()), *means, low, high))
    return found


def share_within(score: ArrayLike, interval: ArrayLike) -> float | None:
    """Return the share of scores within the interval [N, 2] of their target; None if no interval is known.

    An interval without width, of a target that is certain, does not count: nothing but the target is in it.

    >>> share_within([0.1, 0.4, 0.9, 0.9], [(0.0, 0.2), (0.5, 0.9), (1.0, 1.0), (float("nan"), float("nan"))])
    0.5
    """
    low_N, high_N = np.asarray(interval, float).reshape(-1, 2).T
    uncertain_N = high_N > low_N
    if not uncertain_N.any():
        return None
    score_N = np.asarray(score, float)
    return float(((low_N <= score_N) & (score_N <= high_N))[uncertain_N].mean())


def expected_calibration_error(score: ArrayLike, target: ArrayLike, bins: int = BINS) -> float:
    """Return the mean over scores of |mean score - mean target| in the score's bin; 0 is best.

    Bins have equal width (Guo et al. 2017, arXiv 1706.04599).

    >>> round(expected_calibration_error([0.1, 0.3, 0.9], [0.0, 1.0, 1.0], bins=2), 4)
    0.2333
    """
    found = reliability(score, target, bins)
    count = sum(part.count for part in found)
    return sum(part.count * abs(part.score - part.target) for part in found) / count


def auc(score: ArrayLike, is_right: ArrayLike) -> float | None:
    """Return how often a right item has a higher score than a wrong one; ties count half.

    1 is perfect, 0.5 is chance. None if all items are right or all are wrong.

    >>> auc([0.1, 0.5, 0.5, 0.9], [False, False, True, True])
    0.875
    """
    score_N, right_N = np.asarray(score, np.float64), np.asarray(is_right, bool)
    if score_N.shape != right_N.shape or score_N.ndim != 1:
        raise ValueError(f"{score_N.shape} scores for {right_N.shape} outcomes")
    wrong = np.sort(score_N[~right_N])
    right = score_N[right_N]
    if not len(wrong) or not len(right):
        return None
    below, not_above = (np.searchsorted(wrong, right, side).sum() for side in ("left", "right"))
    return float((below + not_above) / 2 / (len(right) * len(wrong)))


def bootstrap_intervals(
    score: ArrayLike, target: ArrayLike, problem: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return 95 % bootstrap intervals of the Brier score and of the AUC.

    Problems are resampled, not steps, since steps of one problem are not independent; `problem` is [N], the
    number of each item's problem, from 0. An item is right if its target is above 0. NaN if the metric is not
    defined or there is only one problem.
    """
    score_N, target_N = _pair(score, target)
    order = score_N.argsort()
    score_N, target_N, problem_N = score_N[order], target_N[order], np.asarray(problem)[order]
    tie = np.flatnonzero(
        np.concatenate([[True], score_N[1:] != score_N[:-1]])
    )  # index of the first item of each score
    error_N, right_N = (score_N - target_N) ** 2, target_N > 0
    count = int(problem_N.max()) + 1
    rng = np.random.default_rng(seed)
    briers, aucs = [], []
    for _ in range(resamples if count > 1 else 0):
        weight_N = rng.multinomial(count, np.full(count, 1 / count))[problem_N]
        briers.append(float(error_N @ weight_N) / int(weight_N.sum()))
        right = np.add.reduceat(weight_N * right_N, tie)
        wrong = np.add.reduceat(weight_N * ~right_N, tie)
        pairs = float(right.sum()) * float(wrong.sum())
        aucs.append(float(right @ (wrong.cumsum() - wrong / 2)) / pairs if pairs else math.nan)
    return _middle_95(briers), _middle_95(aucs)


def _middle_95(values: Sequence[float]) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of the values without NaN."""
    defined = [value for value in values if not math.isnan(value)]
    return middle_95(np.array(defined)) if defined else (math.nan, math.nan)


def _pair(score: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    """Return both as arrays [N]; ValueError unless N > 0 scores in [0, 1] have one target each."""
    score_N, target_N = np.asarray(score, np.float64), np.asarray(target, np.float64)
    if score_N.shape != target_N.shape or score_N.ndim != 1 or not len(score_N):
        raise ValueError(f"{score_N.shape} scores for {target_N.shape} targets")
    if not ((score_N >= 0) & (score_N <= 1)).all():
        raise ValueError("a score is outside [0, 1]")
    return score_N, target_N
