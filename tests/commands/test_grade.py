"""erprm grade: predictions and rewards of solutions, and what the summary says of them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from erprm_cli.errors import UserError

Row = dict[str, Any]
Erprm = Callable[..., Result]


def solution(sample: int, text: str, **more: Any) -> Row:
    row = {"id": "a", "problem": "2 + 3?", "answer": "5", "note": [1, None], "sample": sample}
    return row | {"solution": text, "steps": [text]} | more


def jsonl(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows_of(text: str) -> list[Row]:
    return [json.loads(line) for line in text.splitlines()]


RIGHT, WRONG = "The answer is: 5", "The answer is: 6"


def test_predictions_and_rewards_are_replaced_in_their_place_and_all_else_is_kept(erprm: Erprm) -> None:
    rows = [
        solution(0, RIGHT, prediction="5", reward=1.0, scores=[0.5]),
        solution(1, WRONG, prediction="5", reward=1.0, num_tokens=3),
        solution(2, RIGHT, reward=0.0, prediction=None),
    ]
    done = erprm("grade", stdin=jsonl(rows))
    assert done.exit_code == 0, done.output
    found = rows_of(done.stdout)
    assert found == [
        rows[0],
        rows[1] | {"prediction": "6", "reward": 0.0},
        rows[2] | {"prediction": "5", "reward": 1.0},
    ]
    assert [list(row) for row in found] == [list(row) for row in rows]
    assert (
        "3 solutions graded (0 for the first time), 66.7% correct, 2 predictions and 2 rewards changed"
        in (done.stderr)
    )


def test_rows_that_were_never_graded_are_graded_in_order(erprm: Erprm) -> None:
    rows = [solution(n, RIGHT if n % 3 else WRONG) for n in range(200)]
    done = erprm("grade", stdin=jsonl(rows))
    assert [(row["sample"], row["reward"]) for row in rows_of(done.stdout)] == [
        (n, float(n % 3 > 0)) for n in range(200)
    ]
    assert "200 solutions graded (200 for the first time)" in done.stderr
    assert "0 predictions and 0 rewards changed" in done.stderr


def test_grading_again_changes_nothing(erprm: Erprm) -> None:
    once = erprm("grade", stdin=jsonl([solution(0, RIGHT), solution(1, WRONG), solution(2, "none")])).stdout
    again = erprm("grade", stdin=once)
    assert again.stdout == once
    assert (
        "3 solutions graded (0 for the first time), 33.3% correct, 0 predictions and 0 rewards changed, 1 "
        in (again.stderr)
    )


def test_without_a_gold_answer_the_reward_is_null_and_a_warning_says_so(erprm: Erprm) -> None:
    rows = [solution(0, RIGHT), solution(1, RIGHT, answer=None, reward=1.0, prediction="5")]
    done = erprm("grade", "-q", stdin=jsonl(rows))
    assert [(row["prediction"], row["reward"]) for row in rows_of(done.stdout)] == [("5", 1.0), ("5", None)]
    assert "1 solutions were not graded because 'answer' is missing; --gold-field NAME" in done.stderr


def test_unfinished_solutions_and_those_without_an_answer_are_counted(erprm: Erprm) -> None:
    rows = [solution(0, RIGHT, finish_reason="length"), solution(1, "It is 5."), solution(2, RIGHT)]
    done = erprm("grade", stdin=jsonl(rows))
    assert [row["reward"] for row in rows_of(done.stdout)] == [0.0, 0.0, 1.0]
    assert ", 1 unfinished, 1 without a prediction" in done.stderr


def test_completions_that_failed_or_were_filtered_are_counted_apart(erprm: Erprm) -> None:
    rows = [solution(n, RIGHT, finish_reason=reason) for n, reason in enumerate(("abort", "stop", "SAFETY"))]
    done = erprm("grade", stdin=jsonl(rows))
    assert [row["reward"] for row in rows_of(done.stdout)] == [None, 1.0, None]
    assert "1 solutions graded (1 for the first time), 100.0% correct, 0 pred" in done.stderr
    assert "2 solutions were not graded because their completion failed or was filtered" in done.stderr
    assert "--gold-field" not in done.stderr


@pytest.mark.parametrize("field", ["rollouts", "labels"])
def test_what_was_made_with_another_reward_is_reported(erprm: Erprm, field: str) -> None:
    rows = [solution(n, RIGHT, prediction="5", reward=float(n), **{field: [[0.0]]}) for n in range(2)]
    done = erprm("grade", stdin=jsonl(rows))
    assert "1 solutions have another reward now, but rollouts or labels made with the earlier" in done.stderr
    assert [row[field] for row in rows_of(done.stdout)] == [[[0.0]], [[0.0]]]


DUMPS: list[Row] = [
    {"input": "2 + 3?", "output": RIGHT, "gt": 5},
    {"prompt": "2 + 3?", "responses": [WRONG, "#### 5"], "gt": "2 + 3 = 5 #### 5"},
    {
        "messages": [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": r"\boxed{5}"}],
        "gt": "$5$",
    },
    {"problem": "1 + 1?", "solution": "It is\n\\boxed{2}", "gt": "2"},
]


def test_dumps_of_others_are_graded(erprm: Erprm) -> None:
    done = erprm("grade", "--gold-field", "gt", stdin=jsonl(DUMPS))
    found = rows_of(done.stdout)
    assert [(row["prediction"], row["reward"]) for row in found] == [
        ("5", 1.0),
        ("6", 0.0),
        ("5", 1.0),
        ("5", 1.0),
        ("2", 1.0),
    ]
    assert [row["sample"] for row in found] == [0, 1, 2, 3, 0]
    assert [row["answer"] for row in found] == ["5", "5", "5", "$5$", "2"]
    assert found[-1]["steps"] == ["It is", "\\boxed{2}"]
    assert [row["gt"] for row in found] == [5, "2 + 3 = 5 #### 5", "2 + 3 = 5 #### 5", "$5$", "2"]
    assert "read 1 rows of dump, 1 rows of dump-list, 1 rows of dump-chat" in done.stderr


def test_what_grade_writes_is_read_by_the_next_command(erprm: Erprm) -> None:
    graded = erprm("grade", "-q", "--gold-field", "gt", stdin=jsonl(DUMPS)).stdout
    assert "gold 5, prediction 5, right" in erprm("show", stdin=graded).stdout
    assert erprm("convert", "-q", stdin=graded).stdout == graded


def test_an_output_appears_when_all_went_well_and_is_made_again(erprm: Erprm, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(jsonl([solution(0, RIGHT)]) + "{\n")
    assert isinstance(erprm("grade", source, "-o", out).exception, UserError)
    assert not out.exists()
    for rows in ([solution(0, RIGHT)], [solution(0, RIGHT), solution(1, WRONG)]):
        source.write_text(jsonl(rows))
        assert erprm("grade", source, "-o", out).exit_code == 0
        assert len(rows_of(out.read_text())) == len(rows)
    refused = erprm("grade", source, "-o", out, "-t", "math")
    assert "was made with template None, not math" in str(refused.exception)
    assert isinstance(erprm("grade", source, "-o", source).exception, UserError)


@pytest.mark.slow
def test_a_hard_pair_is_noted_and_graded_0(erprm: Erprm, tmp_path: Path) -> None:
    hard = "The answer is: (x + 1/2999!)!"
    rows = [solution(0, hard), solution(1, RIGHT)]
    done = erprm("grade", "--errors", tmp_path / "notes.jsonl", stdin=jsonl(rows))
    assert [row["reward"] for row in rows_of(done.stdout)] == [0.0, 1.0]
    assert "1 answer without a verdict in time (graded 0)" in done.stderr
    assert "no verdict" in (tmp_path / "notes.jsonl").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solution": None}, "no 'solution'"),
        ({"solution": 5}, "'solution' is an integer"),
        ({"steps": ["absent"]}, "'steps[0]' (counted from 0) is not in 'solution'"),
        ({"problem": None}, "no 'problem'"),
        ({"answer": [5]}, "'answer' is a list, not text or a number"),
    ],
)
def test_a_bad_row_stops_with_its_place_and_reason(erprm: Erprm, change: Row, message: str) -> None:
    done = erprm("grade", stdin=jsonl([solution(0, RIGHT), solution(1, RIGHT) | change]))
    assert str(done.exception).startswith("stdin:2: ") and message in str(done.exception)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"problem": None, "solution": None}, ["no 'problem' (the question)", "no 'solution' (the text"]),
        ({"solution": 5}, ["'solution' is an integer, not a string"]),
        ({"steps_of": "reasoning", "reasoning": 5}, ["'reasoning' is an integer, not a string or null"]),
        ({"steps_of": []}, ["'steps_of' must be answer or reasoning"]),
    ],
)
def test_all_that_is_wrong_with_a_row_without_steps_is_told(
    erprm: Erprm, changed: Row, told: list[str]
) -> None:
    row = solution(0, RIGHT) | {"steps": None} | changed
    error = erprm("grade", stdin=jsonl([row])).exception
    assert isinstance(error, UserError) and all(text in str(error) for text in told), error
