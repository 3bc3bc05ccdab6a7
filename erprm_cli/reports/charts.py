"""What --plot shows: the results of a command as curves; `plots` draws them.

T thresholds
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from erprm_cli.evaluation.best_of_n import BEST, PASS_1, BestOfNResult
from erprm_cli.evaluation.calibration import CalibrationResult
from erprm_cli.evaluation.equal_tokens import TokensResult
from erprm_cli.evaluation.intervals import Estimate
from erprm_cli.evaluation.processbench import AVERAGE, ProcessBenchResult, Split
from erprm_cli.reports.tables import calibration_title, names_of
from erprm_cli.rows.row import Row

Point = tuple[float, float]  # x, y


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through `points`, with a mark at each of `marks`."""

    name: str
    points: Sequence[Point]
    marks: Sequence[Point]
    intervals: Sequence[Point] = ()  # (low, high) of y at each mark
    intervals_name: str | None = None  # in the legend
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves and their axes. The names, of at most five characters, are for the terminal."""

    x_label: str
    y_label: str
    x_name: str
    y_name: str
    curves: Sequence[Curve]
    x_ticks: Sequence[float] = ()  # empty: as it suits
    log_x: bool = False  # to base 2
    y_unit: float | None = None  # in the terminal, the y axis ends at multiples of it; None: as it suits
    diagonal: str | None = None  # what x = y means; both axes then go from 0 to 1


def accuracy_chart(results: Sequence[BestOfNResult]) -> Chart:
    """Return % correct against n with 95 % intervals: a curve for each way to choose."""
    by_name: dict[str, list[BestOfNResult]] = {}
    for result in results:
        if result.minus is None and result.method != PASS_1:
            by_name.setdefault(", ".join(filter(None, names_of(result))), []).append(result)
    curves = []
    for name, found in by_name.items():
        points = [(result.n, 100 * result.estimate.value) for result in found]
        intervals = [_interval(result.estimate) for result in found]
        curves.append(Curve(name, points, points, intervals, dashed=found[0].method != BEST))
    budgets = sorted({result.n for result in results})
    return Chart("candidates n", "% correct", "n", "%", curves, budgets, log_x=True, y_unit=5)


def tokens_chart(results: Sequence[TokensResult]) -> Chart:
    """Return % correct against the policy's tokens per problem: a curve per search and way to choose."""
    by_name: dict[str, list[TokensResult]] = {}
    for result in results:
        if result.minus is None:
            by_name.setdefault(", ".join(filter(None, [result.search, *result.way])), []).append(result)
    curves = []
    for name, found in by_name.items():
        points = [(result.tokens, 100 * result.estimate.value) for result in found]
        intervals = [_interval(result.estimate) for result in found]
        curves.append(Curve(name, points, points, intervals, dashed=found[0].way.method != BEST))
    label = "tokens generated per problem"
    return Chart(label, "% correct", "tok", "%", curves, log_x=True, y_unit=5)


def processbench_chart(
    splits: Sequence[Sequence[Split]], results: Sequence[Sequence[ProcessBenchResult]]
) -> Chart:
    """Return F1 against the threshold: a curve per split, and their mean, with the result marked.

    `splits` and `results` are those of each PRM. A split without F1 has no curve.
    """
    threshold_T = np.linspace(0, 1, 201)
    curves = []
    for prm_splits, prm_results in zip(splits, results, strict=True):
        f1_of = {split.name: split.f1(threshold_T) for split in prm_splits}
        f1_of[AVERAGE] = np.mean(list(f1_of.values()), axis=0)
        for result in prm_results:
            f1_T = f1_of[result.split]
            if np.isnan(f1_T).any():
                continue
            name = f"{result.prm}, {result.split}" if len(splits) > 1 else result.split
            points = [(float(x), 100 * float(y)) for x, y in zip(threshold_T, f1_T, strict=True)]
            marks, intervals = [], []
            if result.threshold is not None:
                marks, intervals = [(result.threshold, 100 * result.f1.value)], [_interval(result.f1)]
            curves.append(Curve(name, points, marks, intervals, dashed=result.split == AVERAGE))
    return Chart("threshold", "F1, %", "at", "F1 %", curves, y_unit=5)


def calibration_chart(results: Sequence[CalibrationResult]) -> Chart:
    """Return the reliability diagram: the mean target of each bin against its mean score.

    If all labels have intervals, a band goes from the mean of their lower ends to that of their upper ends.
    """
    curves = []
    for result in results:
        points = [(part.score, part.target) for part in result.bins]
        ends = [(part.target_low, part.target_high) for part in result.bins]
        intervals = [(low, high) for low, high in ends if low is not None and high is not None]
        intervals = intervals if len(intervals) == len(points) else []
        name = f"{calibration_title(result)} (error {result.error:.3f})"
        curves.append(
            Curve(name, points, points, intervals, "95 % intervals of labels", dashed=result.of != "steps")
        )
    return Chart("mean score", "mean target", "score", "mean", curves, y_unit=0.5, diagonal="perfect")


def training_chart(log: Sequence[Row]) -> Chart:
    """Return the loss against the step and, if there is validation, its loss."""
    curves = []
    for name, field in (("loss", "loss"), ("validation loss", "eval_loss")):
        points = [(row["step"], row[field]) for row in log if row.get(field) is not None]
        if points:
            curves.append(Curve(name, points, points if field == "eval_loss" else points[-1:]))
    return Chart("step", "loss", "step", "loss", curves)


def _interval(estimate: Estimate) -> Point:
    return 100 * estimate.low, 100 * estimate.high


def y_range(chart: Chart) -> Point:
    """Return the lowest and the highest y of a chart, rounded to multiples of its unit; they differ."""
    values = [y for curve in chart.curves for _, y in (*curve.points, *curve.marks)]
    low, high = min(values), max(values)
    unit = chart.y_unit or 10.0 ** math.floor(math.log10(high - low or abs(low) or 1.0)) / 2
    low = unit * math.floor(low / unit)
    return low, max(unit * math.ceil(high / unit), low + unit)
