"""Grading and extraction by example: rows of tests/data, several of each kind."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.answers.extraction import extract
from erprm_cli.answers.grader import Grader
from tests.answers.answer_data import DATA


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


PAIRS = rows(DATA / "grading_pairs.jsonl")


@pytest.mark.parametrize("kind", sorted({row["kind"] for row in PAIRS}))
def test_pairs_of_answers_are_graded_right_from_either_side(grader: Grader, kind: str) -> None:
    wrong = [
        (gold, prediction)
        for row in PAIRS
        if row["kind"] == kind
        for gold, prediction in [(row["gold"], row["prediction"]), (row["prediction"], row["gold"])]
        if grader.equal(gold, prediction) is not row["equal"]
    ]
    assert wrong == []


def test_an_answer_equals_itself_whether_or_not_it_is_understood(grader: Grader) -> None:
    for row in PAIRS:
        assert grader.equal(row["prediction"], f"${row['prediction']}$"), row


@pytest.mark.parametrize("row", rows(DATA / "extraction_cases.jsonl"), ids=lambda row: row["kind"])
def test_the_final_answer_is_found(row: dict[str, Any]) -> None:
    assert extract(row["solution"]) == row["answer"]


def documented_pairs() -> list[tuple[str, str, bool]]:
    """Return the pairs of the table in docs/evaluation.md: the first answer of a group and each other one."""
    text = (DATA.parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    table = text.partition("| answers | equal | rule |\n|---|---|---|\n")[2].partition("\n\n")[0]
    found = []
    for line in table.splitlines():
        _, answers, equal, *_ = re.split(r"(?<!\\)\|", line)
        for group in answers.split(";"):
            first, *others = re.findall("`([^`]+)`", group.replace(r"\|", "|"))
            found += [(first, other, equal.strip() == "yes") for other in others]
    return found


def test_the_documented_table_holds(grader: Grader) -> None:
    pairs = documented_pairs()
    assert len(pairs) > 40
    assert [pair for pair in pairs if grader.equal(pair[0], pair[1]) is not pair[2]] == []
