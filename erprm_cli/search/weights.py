"""Weights of particles, kept as logarithms: their mean, their effective sample size, and resampling.

N particles
"""

import numpy as np
from numpy.typing import NDArray

from erprm_cli.search.prefix import Random

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def log_mean_exp(log_w_N: Floats) -> float:
    """Return ln of the mean weight, without overflow.

    >>> round(log_mean_exp(np.log([1.0, 3.0])), 4)
    0.6931
    """
    top = log_w_N.max()
    return float(top + np.log(np.exp(log_w_N - top).mean()))


def shares(log_w_N: Floats) -> Floats:
    """Return the weights divided by their sum."""
    w_N = np.exp(log_w_N - log_w_N.max())
    share_N: Floats = w_N / w_N.sum()
    return share_N


def effective_sample_size(log_w_N: Floats) -> float:
    """Return (sum w)^2 / sum w^2: N for equal weights, 1 if one particle has all the weight.

    >>> round(effective_sample_size(np.log([1.0, 3.0])), 4)
    1.6
    """
    return float(1 / (shares(log_w_N) ** 2).sum())


def systematic(log_w_N: Floats, size: int, random: Random) -> Ints:
    """Return `size` indices: index i appears size * share_i times, rounded down or up, on average exactly.

    One random number places `size` equally spaced points on the cumulated shares (Kitagawa 1996).
    """
    points = (random.random() + np.arange(size)) / size
    cumulated_N = np.cumsum(shares(log_w_N))
    return np.minimum(np.searchsorted(cumulated_N, points, side="right"), len(log_w_N) - 1)
