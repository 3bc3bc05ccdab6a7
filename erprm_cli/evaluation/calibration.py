"""Calibration: how well scores fit labels or success rates of steps, and rewards of solutions."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import NamedTuple

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
    share_within,
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
    in_interval: float | None = None  # the share of scores within the interval of their label

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
            "in_interval": self.in_interval,
            "auc": self.auc,
            "auc_low": self.auc_interval[0],
            "auc_high": self.auc_interval[1],
            "bins": [asdict(part) for part in self.bins],
        }


class StepTargets(NamedTuple):
    """The steps of a row that have a target: n of its L steps."""

    scores: list[float]  # [n]
    targets: list[float]  # [n]
    variances: list[float]  # [n] of rates; empty for labels
    intervals: list[tuple[float, float]]  # [n] of labels; empty if the row has none


class Targets:
    """Finds the target of each step of a row: its label, or the success rate of its rollouts.

    A step whose label or rollouts are null has no target and is left out.

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
                if rewards is not None:
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

    def of(self, row: Row) -> StepTargets:
        """Return the scores of a row with their targets."""
        eta, from_labels = self.given, self.against == LABELS
        found = row["labels"] if from_labels and eta is None else row["rollouts"]
        known = [step for step, value in enumerate(found) if value is not None]
        scores, values = ([values[step] for step in known] for values in (row["scores"], found))
        if from_labels and eta is None:
            ends = [row[name] for name in schema.LABEL_BOUNDS if row.get(name) is not None]
            intervals = [(ends[0][step], ends[1][step]) for step in known] if len(ends) == 2 else []
            return StepTargets(scores, values, [], intervals)
        if from_labels:
            assert eta is not None
            return StepTargets(scores, [_label(tuple(rewards), eta) for rewards in values], [], [])
        if eta is not None:
            scores = [rate_of_label(score, eta) for score in scores]
        rates = [math.fsum(rewards) / len(rewards) for rewards in values]
        return StepTargets(scores, rates, [_variance_of_mean(tuple(rewards)) for rewards in values], [])


@dataclass(slots=True)
class _Pairs:
    """Scores with their targets, the intervals of these (NaN: unknown) and the number of their problem."""

    score: list[float] = field(default_factory=list)
    target: list[float] = field(default_factory=list)
    interval: list[tuple[float, float]] = field(default_factory=list)
    problem: list[int] = field(default_factory=list)

    def add(
        self,
        problem: int,
        scores: Sequence[float],
        targets: Sequence[float],
        intervals: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.score += scores
        self.target += targets
        self.interval += intervals or [(math.nan, math.nan)] * len(scores)
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
            reliability(self.score, self.target, interval=self.interval),
            share_within(self.score, self.interval),
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
        found = self.targets.of(row)
        self._steps.add(problem, found.scores, found.targets, found.intervals)
        self._variances += found.variances
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
