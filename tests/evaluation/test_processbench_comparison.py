"""Two PRMs on the same rows: rows are found by content, and intervals of differences cover them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.errors import UserError
from erprm_cli.evaluation.processbench import Splits, evaluate
from erprm_cli.evaluation.processbench_comparison import evaluate_all, paired_differences, read_same_rows

Row = dict[str, Any]


def row(number: int, label: int, score: float, split: str = "gsm8k", prm: str = "er") -> Row:
    return {
        **{"id": str(number), "problem": f"p{number}", "steps": ["x"], "label": label},
        **{"scores": [score], "split": split, "prm": prm},
    }


def collected(rows: list[Row]) -> Splits:
    splits = Splits("er.jsonl")
    for one in rows:
        splits.add(one, "er.jsonl")
    return splits


def read(path: Path, rows: list[Row], ours: Splits) -> Splits:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return read_same_rows(str(path), ours, FieldNames(None))


OURS = [row(0, 0, 0.1), row(1, -1, 0.9), row(2, 0, 0.2, "math"), row(3, -1, 0.8, "math")]


def test_rows_are_found_in_any_order_without_their_split(tmp_path: Path) -> None:
    ours = collected(OURS)
    others = [{**one, "scores": [1 - one["scores"][0]], "prm": "orm"} for one in reversed(OURS)]
    theirs = read(
        tmp_path / "orm.jsonl", [{k: v for k, v in one.items() if k != "split"} for one in others], ours
    )
    assert theirs.keys == ours.keys and theirs.prm == "orm"
    each, differences = evaluate_all([ours, theirs], 0.5, None, False)
    assert [[result.f1.value for result in results] for results in each] == [[1, 1, 1], [0, 0, 0]]
    assert [(one.split, one.prm, one.minus, one.f1.value) for one in differences] == [
        ("gsm8k", "er", "orm", 1.0),
        ("math", "er", "orm", 1.0),
        ("average", "er", "orm", 1.0),
    ]
    assert differences[2].threshold is None and differences[2].error_accuracy.problems == 2


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (OURS[:3], "orm.jsonl: lacks 1 of 4 rows of INPUT; a comparison needs the same rows"),
        ([*OURS, OURS[0]], "orm.jsonl:5: no row of INPUT has this id, problem, steps and label; "),
        ([OURS[0] | {"label": -1}, *OURS[1:]], "orm.jsonl:1: no row of INPUT has this id, problem, steps"),
        ([OURS[0] | {"scores": None}, *OURS[1:]], "orm.jsonl:1: no 'scores'"),
    ],
    ids=["one is missing", "twice", "another label", "no scores"],
)
def test_other_rows_are_an_error(others: list[Row], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path / "orm.jsonl", others, collected(OURS))
    assert message in str(caught.value)


def test_a_prm_differs_from_itself_by_nothing() -> None:
    ours = collected([row(i, -(i % 2), float(i % 3 > 0)) for i in range(100)])
    (difference,) = evaluate_all([ours, ours], 0.5, None, False)[1]
    for estimate in (difference.f1, difference.error_accuracy, difference.correct_accuracy):
        assert estimate.value == 0.0 and -0.05 < estimate.low < 0 < estimate.high < 0.05


def test_without_correct_rows_a_difference_is_not_defined() -> None:
    ours = collected([row(0, 0, 0.1)])
    (difference,) = evaluate_all([ours, ours], 0.5, None, False)[1]
    assert math.isnan(difference.f1.value) and math.isnan(difference.correct_accuracy.low)
    assert difference.error_accuracy.value == 0.0


def test_each_prm_has_a_threshold_of_its_own() -> None:
    ours = collected([row(0, 0, 0.1), row(1, -1, 0.4)])
    theirs = collected([row(0, 0, 0.7), row(1, -1, 0.9)])
    each, (difference,) = evaluate_all([ours, theirs], 0.5, None, True)
    assert [results[0].f1.value for results in each] == [1.0, 1.0] and difference.f1.value == 0.0


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_intervals_cover_the_difference(shared: float) -> None:
    """`shared` is how often both PRMs get the same luck; pairing makes the intervals narrower then."""
    rng = np.random.default_rng(1)
    accuracy, covered, widths = np.array([0.7, 0.6]), 0, []
    for _ in range(300):
        splits = [Splits(), Splits()]
        for number in range(100):
            luck = rng.random(2)
            if rng.random() < shared:
                luck[1] = luck[0]
            for one, is_right in zip(splits, luck < accuracy, strict=True):
                label = -(number % 2)
                one.add(row(number, label, float(is_right) if label else 1.0 - float(is_right)), "-")
        results = [evaluate(one.all()) for one in splits]
        (difference,) = paired_differences(splits[0].all(), splits[1].all(), *results)
        covered += difference.f1.low <= 0.1 <= difference.f1.high
        widths.append(difference.f1.high - difference.f1.low)
    assert 0.92 < covered / 300 < 0.985
    assert (np.mean(widths) < 0.2) == (shared > 0)
