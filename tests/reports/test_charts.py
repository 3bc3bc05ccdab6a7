"""Charts hold the numbers of the results."""

import math

import pytest

from erprm_cli.evaluation.calibration import CalibrationResult
from erprm_cli.evaluation.calibration_metrics import reliability
from erprm_cli.evaluation.processbench import Split, evaluate
from erprm_cli.reports.charts import (
    Chart,
    Curve,
    calibration_chart,
    processbench_chart,
    training_chart,
    y_range,
)
from erprm_cli.reports.plots import HEIGHT, text_plot
from erprm_cli.rows.row import Row


def split(name: str, *rows: tuple[list[float], int]) -> Split:
    made = Split(name)
    for scores, label in rows:
        made.add({"scores": scores, "label": label})
    return made


def test_f1_is_drawn_against_the_threshold_and_marked_at_the_one_in_use() -> None:
    splits = [split("a", ([0.9, 0.2], 1), ([0.8], -1)), split("b", ([0.1], 0), ([0.6, 0.7], -1))]
    a, b, average = processbench_chart([splits], [evaluate(splits, threshold=0.65)]).curves
    assert [curve.name for curve in (a, b, average)] == ["a", "b", "average"]
    assert dict(a.points)[0.5] == dict(a.points)[0.65] == 100 and dict(a.points)[0.1] == 0
    assert (a.marks, b.marks, average.marks) == ([(0.65, 100)], [(0.65, 0)], [(0.65, 50)])
    assert average.dashed and dict(average.points)[0.65] == 50
    ((low, high),) = a.intervals
    assert low < 100 == high


def test_a_split_without_f1_has_no_curve_and_an_average_over_oracle_thresholds_no_mark() -> None:
    splits = [split("a", ([0.9, 0.2], 1), ([0.8], -1)), split("b", ([0.1], 0), ([0.6], -1))]
    *_, average = processbench_chart([splits], [evaluate(splits, oracle=True)]).curves
    assert average.name == "average" and average.marks == []
    lonely = [split("only errors", ([0.1], 0))]
    chart = processbench_chart([lonely], [evaluate(lonely)])
    assert chart.curves == [] and text_plot(chart) == "a plot needs at least two values of at"


def test_two_prms_have_curves_of_their_own() -> None:
    splits = [split("a", ([0.9, 0.2], 1), ([0.8], -1))]
    results = [evaluate(splits, prm="er"), evaluate(splits, prm="orm")]
    chart = processbench_chart([splits, splits], results)
    assert [curve.name for curve in chart.curves] == ["er, a", "orm, a"]


def test_a_reliability_diagram_has_a_mark_per_bin() -> None:
    nan = (math.nan, math.nan)
    bins = reliability([0.25, 0.75], [0.5, 1.0], bins=2)
    result = CalibrationResult("steps", "rates", None, None, 2, 1, 0.1, nan, None, 0.25, None, nan, bins)
    chart = calibration_chart([result])
    (curve,) = chart.curves
    assert curve.name == "steps against rates (error 0.250)" and chart.diagonal == "perfect"
    assert curve.points == curve.marks == [(0.25, 0.5), (0.75, 1.0)]


def test_the_band_of_a_reliability_diagram_says_that_it_is_of_the_labels() -> None:
    nan = (math.nan, math.nan)
    bins = reliability([0.25, 0.75], [0.5, 1.0], bins=2, interval=[(0.1, 0.8), (0.6, 1.0)])
    result = CalibrationResult("steps", "labels", None, None, 2, 1, 0.1, nan, None, 0.25, None, nan, bins)
    (curve,) = calibration_chart([result]).curves
    assert curve.intervals == [(0.1, 0.8), (0.6, 1.0)] and curve.intervals_name == "95 % intervals of labels"


def test_the_loss_is_drawn_against_the_step_with_validation_where_it_was_made() -> None:
    log: list[Row] = [
        {"step": 1, "loss": 2.0, "eval_loss": None},
        {"step": 2, "loss": 1.5, "eval_loss": 1.75},
        {"step": 3, "loss": 1.0, "eval_loss": 1.25},
    ]
    loss, validation = training_chart(log).curves
    assert loss.points == [(1, 2.0), (2, 1.5), (3, 1.0)] and loss.marks == [(3, 1.0)]
    assert validation.points == validation.marks == [(2, 1.75), (3, 1.25)]
    assert [curve.name for curve in training_chart(log[:1]).curves] == ["loss"]


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([52.0, 78.0], 5, (50, 80)),
        ([0.0, 0.0], 5, (0, 5)),
        ([0.57, 0.88], None, (0.55, 0.9)),
        ([3.0, 3.0], None, (3.0, 3.5)),
        ([-20.0, 180.0], None, (-50, 200)),
    ],
)
def test_the_y_axis_ends_at_round_numbers(
    values: list[float], unit: float | None, expected: tuple[float, float]
) -> None:
    points = list(enumerate(values))
    chart = Chart("x", "y", "x", "y", [Curve("c", points, points)], y_unit=unit)
    assert y_range(chart) == pytest.approx(expected)
    labels = [line.partition("|")[0] for line in text_plot(chart).splitlines()[:HEIGHT]]
    assert len(set(labels)) == HEIGHT
