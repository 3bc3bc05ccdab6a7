"""Scored rows with labels or rollouts: how well the scores fit, step by step and solution by solution."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache

import numpy as np

from erprm_cli.errors import RowError
from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.evaluation.calibration_metrics import (
    Bin,
    auc,
    brier,
    expected_calibration_error,
    intervals,
    reliability,
)
from erprm_cli.evaluation.candidates import CORRECT_ABOVE
from erprm_cli.labels.estimator import entropy_regularized, eta_in_row, eta_of_row, rate_of_label
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row

LABELS, RATES, REWARD = "labels", "rates", "reward"


@dataclass(frozen=True, slots=True)
class Figure:
    """How well scores fit their targets; `noise` is what K rollouts alone add to the Brier score."""

    of: str  # steps or solutions
    against: str  # labels, rates or reward
    aggregate: str | None
    eta: float | None
    count: int
    problems: int
    brier: float
    brier_interval: tuple[float, float]
    noise: float | None
    error: float
    auc: float | None
    auc_interval: tuple[float, float]
    bins: list[Bin]

    def row(self, prm: str | None) -> Row:
        """Return the figure as a row, the bins of its reliability diagram included."""
        return {
            "of": self.of,
            "against": self.against,
            "prm": prm,
            "aggregate": self.aggregate,
            "eta": None if self.eta is None else eta_in_row(self.eta),
            "count": self.count,
            "problems": self.problems,
            "brier": self.brier,
            "brier_low": self.brier_interval[0],
            "brier_high": self.brier_interval[1],
            "noise": self.noise,
            "calibration_error": self.error,
            "auc": self.auc,
            "auc_low": self.auc_interval[0],
            "auc_high": self.auc_interval[1],
            "bins": [asdict(part) for part in self.bins],
        }


class Targets:
    """Finds the target of each step of a row: its labels, or the rates of its rollouts.

    Labels are those of the row, or made of its rollouts at `eta`. Rates are k/K; with `eta`, that of the
    labels a model was trained on, its scores are first turned back into rates, p = f_eta^-1(score).
    """

    def __init__(self, against: str | None = None, eta: float | None = None) -> None:
        """Compare with labels or rates; None: with labels if the first row has them or `eta` makes them."""
        self.against = against
        self.given = eta
        self.eta = eta

    def check(self, row: Row) -> Row:
        """Check a solution row for its targets; RowError if it has none, or other ones than those before."""
        schema.check_solution(row)
        if self.against is None:
            made = self.given is not None or row.get("labels") is not None
            self.against = LABELS if made else RATES
        if self.against == RATES or self.given is not None:
            return schema.check_rollouts(row)
        schema.check_labels(row)
        try:
            eta = eta_of_row(row.get("eta"), str(row.get("estimator")))
        except (TypeError, ValueError):
            raise RowError("'labels' without the 'eta' they have; `erprm label` writes it") from None
        if self.eta is None:
            self.eta = eta
        if self.eta != eta:
            raise RowError(
                f"labels at eta {eta:g}, but those before are at {self.eta:g}; --eta makes all anew"
            )
        return row

    def check_scored(self, row: Row) -> Row:
        """Check a row for its scores too."""
        return schema.check_scores(self.check(row))

    def of(self, row: Row) -> tuple[list[float], list[float], list[float]]:
        """Return the scores, the targets and the variances of the rates [L] of a row."""
        scores, eta = row["scores"], self.given
        if self.against == LABELS:
            if eta is None:
                return scores, row["labels"], []
            return scores, [_label(tuple(rewards), eta) for rewards in row["rollouts"]], []
        if eta is not None:
            scores = [rate_of_label(score, eta) for score in scores]
        rates = [math.fsum(rewards) / len(rewards) for rewards in row["rollouts"]]
        return scores, rates, [_variance_of_mean(tuple(rewards)) for rewards in row["rollouts"]]


@dataclass(slots=True)
class _Pairs:
    """Scores, their targets, and the number of the problem of each."""

    score: list[float] = field(default_factory=list)
    target: list[float] = field(default_factory=list)
    problem: list[int] = field(default_factory=list)

    def add(self, problem: int, scores: Sequence[float], targets: Sequence[float]) -> None:
        self.score += scores
        self.target += targets
        self.problem += [problem] * len(scores)

    def figure(
        self, of: str, against: str, name: str | None, eta: float | None, noise: float | None, seed: int
    ) -> Figure:
        numbers = {old: new for new, old in enumerate(dict.fromkeys(self.problem))}
        problem = [numbers[old] for old in self.problem]
        around_brier, around_auc = intervals(self.score, self.target, problem, seed=seed)
        return Figure(
            of,
            against,
            name,
            eta,
            len(self.score),
            len(numbers),
            brier(self.score, self.target),
            around_brier,
            noise,
            expected_calibration_error(self.score, self.target),
            auc(self.score, np.array(self.target) > 0),
            around_auc,
            reliability(self.score, self.target),
        )


class Calibration:
    """Gathers scored rows: the scores of steps with their targets, of solutions with their reward."""

    def __init__(self, targets: Targets, aggregates: Sequence[str]) -> None:
        self.targets = targets
        self.aggregates = aggregates
        self.prm: str | None = None  # that gave the scores, if the rows say
        self.count = 0
        self._problems: dict[str, int] = {}
        self._steps = _Pairs()
        self._variances: list[float] = []
        self._solutions = {name: _Pairs() for name in aggregates}

    def add(self, row: Row) -> None:
        """Add a row that `targets` has checked, with its scores."""
        self.count += 1
        if self.prm is None and isinstance(row.get("prm"), str):
            self.prm = row["prm"]
        problem = self._problems.setdefault(row["id"], len(self._problems))
        scores, targets, variances = self.targets.of(row)
        self._steps.add(problem, scores, targets)
        self._variances += variances
        reward = row.get("reward")
        if isinstance(reward, int | float):
            for name, pairs in self._solutions.items():
                pairs.add(problem, [aggregate(row["scores"], name)], [float(reward > CORRECT_ABOVE)])

    def figures(self, seed: int = 0) -> list[Figure]:
        """Return the figure of the steps, then that of the solutions for each aggregate."""
        noise = float(np.mean(self._variances)) if self._variances else None
        against, eta = self.targets.against or RATES, self.targets.eta
        found = [self._steps.figure("steps", against, None, eta, noise, seed)]
        for name, pairs in self._solutions.items():
            if pairs.score:
                found.append(pairs.figure("solutions", REWARD, name, None, None, seed))
        return found


@lru_cache(100_000)
def _label(rewards: tuple[float, ...], eta: float) -> float:
    return entropy_regularized(rewards, eta)


@lru_cache(100_000)
def _variance_of_mean(rewards: tuple[float, ...]) -> float:
    """Return the estimated variance of the mean of rewards; of a single one, an outcome, it is 0."""
    return float(np.var(rewards, ddof=1)) / len(rewards) if len(rewards) > 1 else 0.0
