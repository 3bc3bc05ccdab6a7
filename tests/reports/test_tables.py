"""Tables show the numbers of the results in percent, without empty columns."""

import math
from itertools import product

import pytest
from rich.console import RenderableType

from erprm_cli.evaluation.best_of_n import BEST, PASS, PASS_1, BestOfNResult
from erprm_cli.evaluation.calibration import CalibrationResult
from erprm_cli.evaluation.calibration_metrics import reliability
from erprm_cli.evaluation.intervals import Estimate
from erprm_cli.evaluation.processbench import ProcessBenchResult
from erprm_cli.reports.tables import BEST_OF_N_NOTE, best_of_n_table, calibration_table, processbench_table
from erprm_cli.terminal.text import rendered

CALIBRATION = CalibrationResult(
    *("steps", "rates", None, None, 2, 1, 0.0625, (0.05, 0.075), 0.01, 0.25, None, (math.nan, math.nan)),
    bins=reliability([0.25, 0.75], [0.5, 1.0], bins=2),
)


def lines(table: RenderableType) -> list[str]:
    return rendered(table, 200, colour=False).splitlines()


def test_accuracies_have_a_line_per_method_and_a_column_per_n() -> None:
    half, most = Estimate(0.5, 0.4, 0.6, 20), Estimate(0.75, 0.7, 0.8, 10)
    results = [
        BestOfNResult(None, None, PASS_1, None, 1, half),
        BestOfNResult("er", None, BEST, "min", 1, half),
        BestOfNResult("er", None, BEST, "min", 4, most),
        BestOfNResult(None, None, PASS, None, 1, half),
        BestOfNResult(None, None, PASS, None, 4, most),
        BestOfNResult("er", "soft", BEST, "min", 4, Estimate(0.05, -0.01, 0.11, 10, 0.125)),
    ]
    assert [line.split() for line in lines(best_of_n_table(results))] == [
        ["n=1", "n=4"],
        ["best", "of", "n", "er", "min", "50.0", "±10.0", "75.0", "±5.0"],
        ["pass@1", "50.0", "±10.0"],
        ["pass@n", "(oracle)", "50.0", "±10.0", "75.0", "±5.0"],
        ["problems", "20", "10"],
        [],
        ["difference", "at", "n=4", "points", "95", "%", "interval", "p"],
        ["best", "of", "n", "er", "-", "soft", "min", "+5.0", "-1.0", "to", "+11.0", "0.12"],
        [],
        BEST_OF_N_NOTE.split(),
    ]


def test_an_f1_that_is_not_defined_is_a_dash() -> None:
    nan, right = Estimate(math.nan, math.nan, math.nan, 3), Estimate(1.0, 0.4, 1.0, 3)
    heading, row, *_ = lines(processbench_table([ProcessBenchResult("gsm8k", "fixed", 0.5, nan, nan, right)]))
    assert heading.split() == ["F1", "on", "errors", "on", "correct", "threshold", "rows"]
    assert row.split() == [
        "gsm8k",
        "-",
        "-",
        "100.0",
        "(40.0",
        "to",
        "100.0)",
        "0.5,",
        "fixed",
        "3",
        "+",
        "3",
    ]


def test_prms_that_are_compared_are_named_and_their_differences_follow() -> None:
    half, more = Estimate(0.5, 0.4, 0.6, 3), Estimate(0.05, -0.01, 0.11, 3)
    results = [ProcessBenchResult("gsm8k", "fixed", 0.5, half, half, half, prm=prm) for prm in ("er", "orm")]
    results.append(ProcessBenchResult("gsm8k", "fixed", None, more, more, more, prm="er", minus="orm"))
    text = [line.split() for line in lines(processbench_table(results))]
    assert [line[:3] for line in text[1:3]] == [["gsm8k", "er", "50.0"], ["gsm8k", "orm", "50.0"]]
    assert text[5][:5] == ["gsm8k", "er", "-", "orm", "+5.0"] and text[5][5:8] == ["(-1.0", "to", "+11.0)"]


@pytest.mark.parametrize("threshold", [0.5, None])
@pytest.mark.parametrize("is_defined", product([True, False], repeat=3))
def test_any_figure_of_processbench_may_be_missing(threshold: float | None, is_defined: list[bool]) -> None:
    """An average over splits with their own oracle thresholds has none; a split may lack a kind of row."""
    nan, half = Estimate(math.nan, math.nan, math.nan, 3), Estimate(0.5, 0.25, 0.75, 3)
    estimates = [half if defined else nan for defined in is_defined]
    _, row, *_ = lines(processbench_table([ProcessBenchResult("average", "oracle", threshold, *estimates)]))
    shown = []
    for defined in is_defined:
        shown += ["50.0", "(25.0", "to", "75.0)"] if defined else ["-"]
    shown += ["0.5,", "oracle"] if threshold is not None else ["oracle"]
    assert row.split() == ["average", *shown, "3", "+", "3"]


INTERVALS = [(0.25, 0.75), (math.nan, math.nan)]


@pytest.mark.parametrize(("low", "high"), INTERVALS)
@pytest.mark.parametrize("value", [0.5, math.nan])
@pytest.mark.parametrize("p", [0.125, None])
@pytest.mark.parametrize("aggregate", ["min", None])
@pytest.mark.parametrize("prm", ["er", None])
def test_any_figure_of_best_of_n_may_be_missing(
    prm: str | None, aggregate: str | None, p: float | None, value: float, low: float, high: float
) -> None:
    estimate = Estimate(value, low, high, 3, p)
    results = [BestOfNResult(prm, None, BEST, aggregate, 4, estimate)]
    results += [BestOfNResult("er", "soft", BEST, aggregate, 4, estimate)]
    text = "\n".join(lines(best_of_n_table(results)))
    assert ("nan" in text) is False and ("None" in text) is False
    assert ("0.12" in text) == (p is not None) and ("50.0" in text) == (value == 0.5)


@pytest.mark.parametrize("brier_interval", INTERVALS)
@pytest.mark.parametrize("auc_interval", INTERVALS)
@pytest.mark.parametrize("auc", [0.5, None])
@pytest.mark.parametrize("noise", [0.01, None, 0.0])
@pytest.mark.parametrize("eta", [2.0, None])
@pytest.mark.parametrize("aggregate", ["min", None])
def test_any_figure_of_calibration_may_be_missing(
    aggregate: str | None,
    eta: float | None,
    noise: float | None,
    auc: float | None,
    auc_interval: tuple[float, float],
    brier_interval: tuple[float, float],
) -> None:
    bins = reliability([0.25, 0.75], [0.5, 1.0], bins=2)
    rest = (2, 1, 0.0625, brier_interval, noise, 0.25, auc, auc_interval, bins)
    text = "\n".join(lines(calibration_table([CalibrationResult("steps", "rates", aggregate, eta, *rest)])))
    assert "nan" not in text and "None" not in text and "Brier 0.0625" in text
    assert ("noise" in text) == bool(noise) and ("AUC -" in text) == (auc is None)


def test_a_reliability_diagram_has_bars_to_the_target_and_a_mark_at_the_score() -> None:
    title, metrics, _, *bars = lines(calibration_table([CALIBRATION]))
    assert title == "steps against rates: 2 steps of 1 problems"
    assert metrics.strip() == (
        "Brier 0.0625 (0.0500 to 0.0750) (0.0100 of it is noise of the rollouts); "
        "calibration error 0.250; AUC -"
    )
    assert [bar.split()[:6] for bar in bars] == [
        ["0.0", "to", "0.5", "1", "0.250", "0.500"],
        ["0.5", "to", "1.0", "1", "0.750", "1.000"],
    ]
    bar = bars[0][bars[0].index("0.500") + 5 :].strip()
    assert bar == "[" + "=" * 8 + "|" + "=" * 8 + " " * 18 + "]"
