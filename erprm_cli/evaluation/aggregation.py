"""Aggregation: from the scores of a solution's steps to one score of the solution."""

import math
from collections.abc import Callable, Sequence

AGGREGATORS: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "last": lambda scores: scores[-1],
    "prod": math.prod,
    "mean": lambda scores: math.fsum(scores) / len(scores),
    "max": max,
}


def aggregate(scores: Sequence[float], name: str) -> float:
    """Return the score of a solution from the scores of its steps; the paper uses "min".

    >>> [aggregate([0.5, 1.0, 0.8], name) for name in ("min", "last", "prod")]
    [0.5, 0.8, 0.4]
    """
    return float(AGGREGATORS[name](scores))
