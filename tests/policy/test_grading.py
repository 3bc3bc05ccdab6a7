from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from erprm_cli.answers.grader import Grader, Verdict
from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.policy.grading import SolutionGrader, grade, with_rewards
from erprm_cli.policy.templates import load_template
from erprm_cli.terminal.reporter import Reporter

Row = dict[str, Any]
TINY = load_template("tiny")
SOLUTION: Row = {"id": "a", "problem": "2 + 3?", "answer": "5", "sample": 0, "solution": "The answer is: 5"}


def graded(row: Row, template: str | None = None, gold_field: str = "answer") -> Row:
    with Grader() as grader:
        solutions = SolutionGrader(grader, load_template(template) if template else None, gold_field)
        (row,) = with_rewards(map(solutions.submit, solutions.foreign(row)))
        return row


@pytest.mark.parametrize(
    ("text", "is_finished", "gold", "expected"),
    [
        ("The answer is: 5", True, "5", ("5", 1.0)),
        ("The answer is: 5.0", True, "5", ("5.0", 1.0)),
        ("The answer is: 6", True, "5", ("6", 0.0)),
        ("The answer is: 5", False, "5", ("5", 0.0)),
        ("The answer is: 5", True, None, ("5", 0.0)),
        ("It is 5", True, "5", (None, 0.0)),
    ],
)
def test_a_finished_solution_with_the_gold_answer_is_correct(
    text: str, is_finished: bool, gold: str | None, expected: tuple[str | None, float]
) -> None:
    with Grader() as grader:
        prediction, verdict = grade(text, is_finished, gold, TINY, grader)
    assert (prediction, verdict.reward()) == expected


def test_rows_without_a_verdict_have_a_null_reward() -> None:
    rows = with_rewards([({"id": 1}, Verdict(True)), ({"id": 2}, None), ({"id": 3}, Verdict(False))])
    assert [row["reward"] for row in rows] == [1.0, None, 0.0]


def test_rows_before_a_bad_one_are_yielded_first() -> None:
    def solutions() -> Iterator[tuple[Row, Verdict | None]]:
        yield SOLUTION, Verdict(True)
        raise UserError("bad")

    rows = with_rewards(solutions())
    assert next(rows)["reward"] == 1.0
    with pytest.raises(UserError, match="bad"):
        next(rows)


@pytest.mark.parametrize(
    ("field", "value", "reward"),
    [
        ("answer", "5", 1.0),
        ("answer", 5, 1.0),
        ("answer", "2 + 3 = 5\n#### 5", 1.0),
        ("answer", "6", 0.0),
        ("gt", 5, 1.0),
        ("gt", 5.0, 1.0),
        ("target", r"Thus \boxed{5}.", 1.0),
        ("reference_solution", "The answer is: 6", 0.0),
        ("gt", None, None),
    ],
)
def test_the_gold_answer_may_be_text_a_number_or_a_worked_solution(
    field: str, value: object, reward: float | None
) -> None:
    row = {name: SOLUTION[name] for name in SOLUTION if name != "answer"} | {field: value}
    assert graded(row, gold_field=field)["reward"] == reward


def test_a_gold_answer_of_another_field_becomes_the_answer_only_if_there_is_none() -> None:
    assert graded(SOLUTION | {"answer": None, "gt": 5}, gold_field="gt")["answer"] == "5"
    row = graded(SOLUTION | {"answer": "6", "gt": 5}, gold_field="gt")
    assert (row["answer"], row["gt"], row["reward"]) == ("6", 5, 1.0)


@pytest.mark.parametrize("value", [["5"], True, {"value": 5}])
def test_a_gold_answer_of_another_type_is_a_bad_row(value: object) -> None:
    with pytest.raises(RowError, match="'gt' is .*, not text or a number"):
        graded(SOLUTION | {"gt": value}, gold_field="gt")


@pytest.mark.parametrize("name", ["solution", "prediction", "reward", "steps"])
def test_what_is_graded_is_not_a_gold_answer(name: str) -> None:
    with pytest.raises(UsageError, match=f"--gold-field {name}"):
        graded(SOLUTION, gold_field=name)


@pytest.mark.parametrize(
    ("finish_reason", "reward"),
    [
        *((reason, 1.0) for reason in ("stop", None, "", "eos", "end_turn", "STOP")),
        *((reason, 0.0) for reason in ("length", "max_tokens", "MAX_TOKENS", "something", 7)),
    ],
)
def test_an_unfinished_solution_is_wrong(finish_reason: object, reward: float) -> None:
    row = graded(SOLUTION | {"finish_reason": finish_reason})
    assert (row["reward"], row["prediction"]) == (reward, "5")


@pytest.mark.parametrize(
    "finish_reason", ["abort", "error", "cancelled", "content_filter", "SAFETY", "refusal"]
)
def test_a_failed_or_filtered_completion_gets_no_reward(finish_reason: str) -> None:
    row = graded(SOLUTION | {"finish_reason": finish_reason, "prediction": "5", "reward": 1.0})
    assert (row["reward"], row["prediction"]) == (None, None)


@pytest.mark.parametrize(
    ("text", "template", "prediction", "reward"),
    [
        ("<think>Is it 4?</think>\n\nThe answer is: 5", "qwen3", "5", 1.0),
        ("<think>The answer is: 5", "qwen3", None, 0.0),
        ("The answer is: 5", "qwen3", "5", 1.0),
        ("<|channel|>analysis<|message|>The answer is: 5", "gpt-oss", None, 0.0),
        ("<|channel|>final<|message|>The answer is: 5", "gpt-oss", "5", 1.0),
    ],
)
def test_reasoning_that_other_programs_leave_in_the_solution_is_not_graded(
    text: str, template: str, prediction: str | None, reward: float
) -> None:
    row = graded(SOLUTION | {"solution": text}, template)
    assert (row["solution"], row["prediction"], row["reward"]) == (text, prediction, reward)


def test_an_open_thought_has_no_answer() -> None:
    row = graded(SOLUTION | {"reasoning": "The answer is: 5", "solution": "", "finish_reason": "length"})
    assert (row["prediction"], row["reward"], row["steps"]) == (None, 0.0, [""])


def test_steps_of_the_reasoning_are_split_from_it() -> None:
    row = SOLUTION | {"reasoning": "2 + 3\n= 5", "steps_of": "reasoning"}
    assert graded(row)["steps"] == ["2 + 3", "= 5"]


TWO_ANSWERS = "First \\boxed{4}.\n\nThe answer is: 5"


@pytest.mark.parametrize(
    ("template", "sampling", "prediction", "num_steps"),
    [
        (None, None, "5", 2),
        (None, {"template": "math"}, "4", 2),
        (None, {"template": "mine"}, "5", 2),
        (None, {"template": ["math"]}, "5", 2),
        (None, "math", "5", 2),
        ("math", None, "4", 2),
        ("gsm8k", {"template": "math"}, "5", 2),
    ],
)
def test_the_rules_are_those_of_the_template_named_or_of_the_row(
    template: str | None, sampling: object, prediction: str, num_steps: int
) -> None:
    row = graded(SOLUTION | {"solution": TWO_ANSWERS, "sampling": sampling}, template)
    assert (row["prediction"], len(row["steps"])) == (prediction, num_steps)


def test_missing_steps_are_split_as_the_template_says_and_others_are_kept() -> None:
    text = "One line.\nAnother.\n\nThe answer is: 5"
    assert len(graded(SOLUTION | {"solution": text})["steps"]) == 3
    assert len(graded(SOLUTION | {"solution": text}, "math")["steps"]) == 2
    assert graded(SOLUTION | {"solution": text, "steps": [text]})["steps"] == [text]


def test_solutions_without_identity_are_numbered_per_problem() -> None:
    rows: Iterable[Row] = [{"problem": text, "solution": "5"} for text in ("p", "q", "p")]
    with Grader() as grader:
        solutions = SolutionGrader(grader)
        found = [one for row in rows for one in solutions.foreign(row)]
    assert [row["sample"] for row in found] == [0, 0, 1]
    assert found[0]["id"] == found[2]["id"] != found[1]["id"]


def test_the_summary_says_whose_rules_found_the_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with Grader() as grader:
        solutions = SolutionGrader(grader)
        for sampling in (None, {"template": "math"}, {"template": "math"}, {"template": "own"}):
            solutions.submit(SOLUTION | {"sampling": sampling})
        solutions.report(Reporter("grade"))
    said = "answers were found by these rules: default (2), math (2); -t NAME chooses others"
    assert said in capsys.readouterr().err
