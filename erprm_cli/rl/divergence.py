"""Divergence: the PRM's score rises while the outcome falls, so the policy learns to please the PRM.

A row of the log diverges if, compared with the row of the best outcome so far, its outcome is lower and the
gap, that is score minus outcome, is wider, each by more than two standard errors of the difference, and the
score is higher. The gap of a problem varies less than its score, which falls with the outcome on hard
problems. The unit is the problem: the completions of one problem are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import fmean, stdev

ERRORS = 2  # standard errors
WARN_AFTER = 3  # rows in a row


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems with its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Return the mean of one value per problem.

        >>> Estimate.of([1.0, 3.0])
        Estimate(mean=2.0, error=1.0)
        """
        error = stdev(values) / sqrt(len(values)) if len(values) > 1 else float("inf")
        return cls(fmean(values), error)

    def exceeds(self, other: "Estimate") -> bool:
        """Return whether this mean is higher by more than chance explains."""
        return self.mean - other.mean > ERRORS * hypot(self.error, other.error)


@dataclass(frozen=True, slots=True)
class Point:
    """What a row of the log says of the outcome and of the PRM's score."""

    step: int
    outcome: Estimate
    score: float
    gap: Estimate  # score - outcome


class Divergence:
    """Watches the rows of a run, in order."""

    def __init__(self) -> None:
        self.best: Point | None = None
        self.rows = 0  # diverging rows in a row
        self.last: Point | None = None

    def add(self, point: Point) -> None:
        """Take the next row."""
        self.last = point
        if self.best is None or point.outcome.mean >= self.best.outcome.mean:
            self.best, self.rows = point, 0
            return
        diverges = (
            point.score > self.best.score
            and self.best.outcome.exceeds(point.outcome)
            and point.gap.exceeds(self.best.gap)
        )
        self.rows = self.rows + 1 if diverges else 0

    def __str__(self) -> str:
        assert self.best is not None and self.last is not None
        (best, last) = (self.best, self.last)
        return (
            f"the PRM's score rises while the outcome falls: from {best.score:.3f} and "
            f"{best.outcome.mean:.3f} at step {best.step:,} to {last.score:.3f} and "
            f"{last.outcome.mean:.3f} at step {last.step:,}"
        )
