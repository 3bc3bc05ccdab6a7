"""ProcessBench: thresholds against a loop over rows, predictors with a known F1, simulated intervals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.errors import RowError, UsageError
from erprm_cli.evaluation.processbench import (
    Split,
    check_scored_row,
    evaluate,
    harmonic_mean,
    hit,
    split_name,
)

Row = dict[str, Any]
Rows = list[tuple[list[float], int]]


@st.composite
def scored_rows(draw: st.DrawFn) -> Rows:
    """Few distinct scores, so that ties are common."""
    scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=5)
    rows = draw(st.lists(scores, min_size=1, max_size=12))
    return [(row, draw(st.integers(-1, len(row) - 1))) for row in rows]


def split_of(rows: Sequence[tuple[Sequence[float], int]], name: str = "gsm8k") -> Split:
    split = Split(name)
    for scores, label in rows:
        split.add({"scores": scores, "label": label})
    return split


def first_below(scores: Sequence[float], threshold: float) -> int:
    return next((index for index, score in enumerate(scores) if score < threshold), -1)


def f1_by_hand(rows: Rows, threshold: float) -> float:
    right = [
        [first_below(s, threshold) == label for s, label in rows if (label < 0) is ok] for ok in (False, True)
    ]
    if not all(right):
        return math.nan
    a, b = map(np.mean, right)
    return float(2 * a * b / (a + b)) if a + b else 0.0


@given(scored_rows(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.6, 0.75, 1.0]))
def test_f1_equals_a_loop_over_rows(rows: Rows, threshold: float) -> None:
    found = float(split_of(rows).f1([threshold])[0])
    assert found == pytest.approx(f1_by_hand(rows, threshold), nan_ok=True)


@given(scored_rows())
def test_no_threshold_beats_the_best(rows: Rows) -> None:
    split = split_of(rows)
    best = float(split.f1([split.best_threshold()])[0])
    everywhere = np.linspace(0, 1.01, 102)
    others = [f1_by_hand(rows, threshold) for threshold in everywhere]
    assert best == pytest.approx(max(others), nan_ok=True)


@given(scored_rows(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_a_row_is_hit_by_the_thresholds_of_its_interval_alone(rows: Rows, threshold: float) -> None:
    for scores, label in rows:
        low, high = hit(scores, label)
        assert (low < threshold <= high) is (first_below(scores, threshold) == label)


ROWS = [([0.9, 0.2, 0.9], 1), ([0.1, 0.8], 0), ([0.8, 0.7], -1), ([0.9], -1)]


@pytest.mark.parametrize("oracle", [False, True])
def test_an_oracle_has_100_with_every_rule(oracle: bool) -> None:
    rows = [([float(i != label) for i in range(4)], label) for label in (-1, 0, 1, 2, 3)]
    (result,) = evaluate([split_of(rows)], oracle=oracle)
    assert result.f1.value == result.f1.high == 1.0
    assert (result.error_accuracy.problems, result.correct_accuracy.problems) == (4, 1)


@pytest.mark.parametrize("score", [0.0, 0.3, 0.5, 1.0])
def test_a_constant_score_has_an_f1_of_0(score: float) -> None:
    rows = [([score] * 4, label) for label in (-1, -1, 1, 2, 3)]
    (result,) = evaluate([split_of(rows)])
    assert result.f1.value == result.f1.low == 0.0
    assert 0 < result.f1.high < 1
    assert evaluate([split_of(rows)], oracle=True)[0].f1.value == 0.0


def test_a_score_at_the_threshold_is_not_below_it() -> None:
    (result,) = evaluate([split_of([([0.5, 0.4], 1), ([0.5], -1)])], threshold=0.5)
    assert result.f1.value == 1.0


def test_the_threshold_comes_from_the_split_named_and_serves_all() -> None:
    low = split_of([([0.3, 0.1], 1), ([0.3, 0.3], -1)], "low")
    high = split_of([([0.9, 0.6], 1), ([0.9, 0.9], -1)], "high")
    tuned = evaluate([low, high], tune_on="high")
    assert [result.split for result in tuned] == ["low", "high", "average"]
    assert [result.threshold for result in tuned] == pytest.approx([0.75] * 3)
    assert [result.f1.value for result in tuned] == [0.0, 1.0, 0.5]
    assert {result.rule for result in tuned} == {"tuned on high"}
    oracle = evaluate([low, high], oracle=True)
    assert [result.f1.value for result in oracle] == [1.0, 1.0, 1.0]
    assert [result.threshold for result in oracle] == [pytest.approx(0.2), pytest.approx(0.75), None]
    with pytest.raises(UsageError, match="no split 'math' to tune on; splits: low, high"):
        evaluate([low, high], tune_on="math")


def test_the_average_weighs_splits_alike_and_is_surer_than_one() -> None:
    few = split_of([([0.9, 0.1], 1), ([0.9], -1)] * 20, "few")
    many = split_of([([0.9, 0.9], 1), ([0.9], -1)] * 80, "many")
    results = evaluate([few, many])
    assert results[-1].f1.value == pytest.approx(0.5)
    assert (results[-1].error_accuracy.problems, results[-1].f1.problems) == (100, 200)
    assert results[-1].f1.high - results[-1].f1.low < results[0].f1.high - results[0].f1.low


def test_without_an_error_or_a_correct_row_there_is_no_f1() -> None:
    for rows in (ROWS[:2], ROWS[2:]):
        (result,) = evaluate([split_of(rows)])
        assert math.isnan(result.f1.value)
        assert {result.error_accuracy.problems, result.correct_accuracy.problems} == {0, 2}


@pytest.mark.parametrize(("a", "b", "count"), [(0.5, 0.8, 60), (0.1, 0.95, 60), (0.6, 0.9, 200)])
def test_intervals_hold_the_truth_in_95_of_100_experiments(a: float, b: float, count: int) -> None:
    rng = np.random.default_rng(0)
    truth, trials, covered = float(harmonic_mean(a, b)), 300, 0
    for _ in range(trials):
        rows = [([0.9, 0.1 if rng.random() < a else 0.9], 1) for _ in range(count)]
        rows += [([0.9 if rng.random() < b else 0.1], -1) for _ in range(count)]
        (result,) = evaluate([split_of(rows)])
        covered += result.f1.low <= truth <= result.f1.high
    assert 0.92 <= covered / trials <= 0.98


GOOD: Row = {"problem": "p", "steps": ["a", "b"], "label": 1, "scores": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": None}, "no 'steps'"),
        ({"steps": []}, "'steps' is empty"),
        (
            {"label": None},
            r"not a ProcessBench row: needs problem, steps and label \(first wrong step, -1 if",
        ),
        ({"label": 0.5, "problem": 3}, "'problem' is an integer, not a string; 'label' is a number, not an"),
        ({"label": 2}, "'label' is 2; with 2 steps it must be in -1 .. 1"),
        ({"label": True}, "'label' is true"),
        ({"scores": [0.5]}, "'scores' has 1 numbers for 2 steps"),
        ({"scores": [0.5, 1.5]}, "outside"),
        ({"scores": None}, "no 'scores'"),
    ],
)
def test_an_invalid_row_is_refused_with_the_reason(change: Row, told: str) -> None:
    with pytest.raises(RowError, match=told):
        check_scored_row(GOOD | change)
    assert check_scored_row(GOOD) == GOOD


def test_a_split_is_named_by_the_row_or_else_by_the_file() -> None:
    assert split_name({"split": "math"}, "x.json") == "math"
    assert [split_name({}, source) for source in ("data/gsm8k.json", "math.jsonl.gz", "-")] == [
        "gsm8k",
        "math",
        "stdin",
    ]
