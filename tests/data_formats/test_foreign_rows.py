"""Rows of other projects become ours, or are refused with the reason."""

import json

import pytest

from erprm_cli import hashing
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.data_formats.registry import BY_NAME, detect_format
from erprm_cli.rows import schema
from tests.data_formats.format_rows import ROWS, SAMPLES, read, refusal


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_recognised_and_becomes_ours(name: str) -> None:
    row, expected = ROWS[name]
    before = json.dumps(row)
    data_format = detect_format(row)
    assert data_format is not None and data_format.name == name
    rows = read(row)
    assert json.dumps(row) == before
    for own in rows:
        assert schema.check_solution(own) is own
        assert list(own)[:2] == ["id", "problem"] and own["problem"]
        if "labels" in own:
            assert schema.check_labels(own) and all(type(label) is float for label in own["labels"])
            assert {"eta", "estimator"} <= own.keys()
        assert {"prediction", "reward", "finish_reason", "num_tokens", "sampling"} <= own.keys()
    assert {field: rows[0][field] for field in expected} == expected
    assert read(rows[0]) == [rows[0]]  # ours passes as it is


@pytest.mark.parametrize("name", ROWS)
def test_a_row_without_one_of_its_fields_names_it(name: str) -> None:
    row, _ = ROWS[name]
    field = BY_NAME[name].fields[0]
    assert f"{name}: no '{field}'" in refusal({k: v for k, v in row.items() if k != field}, name=name)


def test_solutions_of_one_problem_are_counted_and_the_ids_are_the_problem() -> None:
    foreign = ForeignRows()
    made = [own for row in SAMPLES["math_shepherd"][:2] * 2 for own in foreign(row)]
    assert [row["sample"] for row in made] == [0, 0, 1, 1]
    assert made[0]["id"] == made[2]["id"] == hashing.content_hash(made[0]["problem"]) != made[1]["id"]
    assert foreign.summary() == "4 rows of math-shepherd"
