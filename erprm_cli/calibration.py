"""How well scores tell what they claim to: plain numpy, no model.

M scores; targets are rates or outcomes in [0, 1]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = Sequence[float] | NDArray[Any]


def brier(score: Floats, target: Floats) -> float:
    """Return the mean squared difference of scores and targets [M]: 0 is perfect.

    >>> brier([0.5, 1.0], [0.0, 1.0])
    0.125
    """
    return float(np.mean((np.asarray(score, np.float64) - np.asarray(target, np.float64)) ** 2))


def expected_calibration_error(score: Floats, target: Floats, bins: int = 10) -> float:
    """Return the mean distance of the mean score and the mean target in `bins` equal parts of [0, 1].

    A part counts by its number of scores (Naeini et al. 2015).

    >>> round(expected_calibration_error([0.1, 0.1, 0.9, 0.9], [0.0, 0.0, 1.0, 0.0]), 3)
    0.25
    """
    score_M, target_M = np.asarray(score, np.float64), np.asarray(target, np.float64)
    part_M = np.minimum((score_M * bins).astype(int), bins - 1)
    gap = np.bincount(part_M, weights=score_M - target_M, minlength=bins)
    return float(np.abs(gap).sum() / len(score_M))


def auc(score: Floats, is_right: Sequence[bool] | NDArray[Any]) -> float | None:
    """Return how often a right one has a higher score than a wrong one, equal scores counted as one half.

    None if all are right or all wrong.

    >>> auc([0.9, 0.5, 0.5], [True, True, False])
    0.75
    """
    score_M, right_M = np.asarray(score, np.float64), np.asarray(is_right, bool)
    num_right = int(right_M.sum())
    num_wrong = len(right_M) - num_right
    if not num_right or not num_wrong:
        return None
    _, place_M, count = np.unique(score_M, return_inverse=True, return_counts=True)
    rank_M = (np.cumsum(count) - (count - 1) / 2)[place_M]  # mean rank of equals, from 1
    return float((rank_M[right_M].sum() - num_right * (num_right + 1) / 2) / (num_right * num_wrong))
