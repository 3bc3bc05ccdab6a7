"""A hierarchical bootstrap: figures of models trained with several seeds, measured on the same problems.

Seeds and problems are crossed: every model answers every problem. Both are resampled, each on its own.

Shapes: R resamples, S seeds, P problems.
"""

from functools import cache

import numpy as np

from erprm_cli.evaluation.arrays import Floats

RESAMPLES = 10_000


@cache
def shares(size: int, draws: int, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Return [R, size], the share of `draws` draws with replacement that fell on each of `size` members."""
    rng = np.random.default_rng(seed)
    found: Floats = rng.multinomial(draws, np.full(size, 1 / size), resamples) / draws
    found.flags.writeable = False  # it is kept for the next caller
    return found


def shares_of_seeds(seeds: int, resamples: int = RESAMPLES, stream: int = 1) -> Floats:
    """Return [R, S], the weights of seeds. One seed less is drawn than there are.

    The variance of a mean over S drawn ones would be (S - 1) / S of what it should be, which matters for the
    few seeds that one can train with; over S - 1 it is unbiased. One seed alone is always drawn: its interval
    is over problems only. Sets of models that are independent of each other need different streams.
    """
    return shares(seeds, max(1, seeds - 1), resamples, stream)


def shares_of_problems(problems: int, resamples: int = RESAMPLES) -> Floats:
    """Return [R, P], the weights of problems; the same ones for every figure, so differences are paired."""
    return shares(problems, problems, resamples)


def resampled_means(value_SP: Floats, resamples: int = RESAMPLES, stream: int = 1) -> Floats:
    """Return [R], the means of values of each seed and problem, both resampled.

    >>> round(float(resampled_means(np.array([[0.0, 1.0] * 50])).std()), 2)
    0.05
    """
    seeds, problems = value_SP.shape
    weight_RS = shares_of_seeds(seeds, resamples, stream)
    mean_R: Floats = ((weight_RS @ value_SP) * shares_of_problems(problems, resamples)).sum(1)
    return mean_R


def middle_95(mean_R: Floats) -> tuple[float, float]:
    """Return the 95 % interval of resampled figures."""
    low, high = np.quantile(mean_R, [0.025, 0.975]).tolist()
    return low, high
