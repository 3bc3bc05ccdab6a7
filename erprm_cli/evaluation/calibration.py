"""Calibration: how well scores fit labels or success rates of steps, and rewards of solutions."""

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
    bootstrap_intervals,
    brier,
    expected_calibration_error,
    reliability,
)
from erprm_cli.labels.estimator import entropy_regularized, eta_in_row, eta_of_row, rate_of_label
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row

LABELS, RATES, REWARD = "labels", "rates", "reward"


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """How well scores fit their targets; intervals are 95 %."""

    of: str  # steps or solutions
    against: str  # labels, rates or reward
    aggregate: str | None
    eta: float | None
    count: int
    problems: int
    brier: float
    brier_interval: tuple[float, float]
    noise: float | None  # what rates of few rollouts add to the Brier score
    error: float  # expected calibration error
    auc: float | None
    auc_interval: tuple[float, float]
    bins: list[Bin]

    def row(self, prm: str | None) -> Row:
        """Return the result as a row, with the bins of its reliability diagram."""
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
    """Finds the target of each step of a row: its label, or the success rate of its rollouts.

    Labels are those of the row or, with `eta`, computed from its rollouts. Rates are k/K; with `eta`, the
    eta of the labels that the PRM was trained on, its scores are turned into rates, p = f_eta^-1(score).
    """

    def __init__(self, against: str | None = None, eta: float | None = None) -> None:
        """Compare with "labels" or "rates"; None: labels if the first row has them or `eta` is given."""
        self.against = against
        self.given = eta
        self.eta = eta

    def check(self, row: Row) -> Row:
        """Check that a solution row has targets of the same kind as the rows before. Raises RowError."""
        schema.check_solution(row)
        if self.against is None:
            made = self.given is not None or row.get("labels") is not None
            self.against = LABELS if made else RATES
        if self.against == RATES or self.given is not None:
            for step, rewards in enumerate(schema.check_rollouts(row)["rollouts"]):
                schema.check_numbers(rewards, f"'rollouts[{step}]'", 0, 1)  # else no score is comparable
            return row
        schema.check_labels(row)
        try:
            eta = eta_of_row(row.get("eta"), str(row.get("estimator")))
        except (TypeError, ValueError):
            raise RowError("'labels' without 'eta'; `erprm label` writes it") from None
        if self.eta is None:
            self.eta = eta
        if self.eta != eta:
            raise RowError(
                f"labels at eta {eta:g}, but rows before have eta {self.eta:g}; --eta recomputes all labels"
            )
        return row

    def check_scored(self, row: Row) -> Row:
        """Check that a solution row has targets and scores. Raises RowError."""
        return schema.check_scores(self.check(row))

    def of(self, row: Row) -> tuple[list[float], list[float], list[float]]:
        """Return the scores [L], the targets [L] and the variances [L] of the rates (empty for labels)."""
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
    """Scores with their targets and the number of their problem."""

    score: list[float] = field(default_factory=list)
    target: list[float] = field(default_factory=list)
    problem: list[int] = field(default_factory=list)

    def add(self, problem: int, scores: Sequence[float], targets: Sequence[float]) -> None:
        self.score += scores
        self.target += targets
        self.problem += [problem] * len(scores)

    def result(
        self, of: str, against: str, name: str | None, eta: float | None, noise: float | None, seed: int
    ) -> CalibrationResult:
        numbers = {old: new for new, old in enumerate(dict.fromkeys(self.problem))}
        problem = [numbers[old] for old in self.problem]
        brier_interval, auc_interval = bootstrap_intervals(self.score, self.target, problem, seed=seed)
        return CalibrationResult(
            of,
            against,
            name,
            eta,
            len(self.score),
            len(numbers),
            brier(self.score, self.target),
            brier_interval,
            noise,
            expected_calibration_error(self.score, self.target),
            auc(self.score, np.array(self.target) > 0),
            auc_interval,
            reliability(self.score, self.target),
        )


class Calibration:
    """Collects scored rows: the scores of steps with their targets, of solutions with their reward."""

    def __init__(self, targets: Targets, aggregates: Sequence[str]) -> None:
        """Compare steps with `targets`, and solutions with rewards for each aggregate."""
        self.targets = targets
        self.aggregates = aggregates
        self.prm: str | None = None  # that produced the scores, if rows name it
        self.count = 0
        self._problems: dict[str, int] = {}
        self._steps = _Pairs()
        self._variances: list[float] = []
        self._solutions = {name: _Pairs() for name in aggregates}

    def add(self, row: Row) -> None:
        """Add a row that passed `targets.check_scored`, or `targets.check` before it was scored."""
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
                pairs.add(problem, [aggregate(row["scores"], name)], [float(schema.is_correct(reward))])

    def results(self, seed: int = 0) -> list[CalibrationResult]:
        """Return the result for steps, then one for solutions per aggregate (if they have rewards)."""
        noise = float(np.mean(self._variances)) if self._variances else None
        against, eta = self.targets.against or RATES, self.targets.eta
        found = [self._steps.result("steps", against, None, eta, noise, seed)]
        for name, pairs in self._solutions.items():
            if pairs.score:
                found.append(pairs.result("solutions", REWARD, name, None, None, seed))
        return found


@lru_cache(100_000)
def _label(rewards: tuple[float, ...], eta: float) -> float:
    return entropy_regularized(rewards, eta)


@lru_cache(100_000)
def _variance_of_mean(rewards: tuple[float, ...]) -> float:
    """Return the estimated variance of the mean of K rewards; 0 for a single one, which is an outcome."""
    return float(np.var(rewards, ddof=1)) / len(rewards) if len(rewards) > 1 else 0.0
