import math
import re
from contextlib import suppress
from typing import Any

import pytest

from erprm_cli import hashing
from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.errors import RowError
from erprm_cli.rows import schema

# Real rows: GSM8K (openai/grade-school-math, MIT), MATH and MATH-500 (hendrycks/math, MIT), MetaMathQA (MIT).
GSM8K = {
    "question": "The city\u2019s bus system carries 1,200,000 people each day. How many people does the bus "
    "system carry for 13 weeks?",
    "answer": "13 weeks have 13 * 7 = <<13*7=91>>91 days.\nFor 91 days the bus system carries 1,200,000 * 91 "
    "= <<1200000*91=109200000>>109,200,000 people.\n#### 109,200,000",
}
MATH = {
    "problem": "Evaluate $\\log_264$.",
    "level": "Level 2",
    "type": "Algebra",
    "solution": "We have $2^6=64$, so $\\log_2 64 = \\boxed{6}$.",
}
MATH_500 = {
    "problem": "Evaluate $\\log_264$.",
    "level": "Level 2",
    "solution": "We have $2^6=64$, so $\\log_2 64 = \\boxed{6}$.",
    "subject": "Algebra",
    "unique_id": "test/algebra/1255.json",
    "answer": "6",
}
META_MATH = {
    "type": "GSM_Rephrased",
    "query": "How many pills does John take in a week if he takes one every 6 hours?",
    "original_question": "John takes a pill every 6 hours.  How many pills does he take a week?",
    "response": "John takes 24 / 6 = 4 pills a day.\nSo he takes 4 * 7 = 28 pills a week.\n#### 28\n"
    "The answer is: 28",
}
SOLUTION: dict[str, Any] = {
    "id": "p1",
    "problem": "2 + 2?",
    "answer": "4",
    "sample": 0,
    "solution": "2 + 2 = 4.\nThe answer is: 4",
    "steps": ["2 + 2 = 4.", "The answer is: 4"],
}


def refusal(check: Any, row: dict[str, Any]) -> str:
    with pytest.raises(RowError) as caught:
        check(row)
    return str(caught.value)


@pytest.mark.parametrize(
    ("row", "text", "answer", "worked"),
    [
        (GSM8K, "question", "109,200,000", "answer"),
        (MATH, "problem", "6", "solution"),
        (MATH_500, "problem", "6", "solution"),
        (META_MATH, "query", "28", "response"),
    ],
    ids=["GSM8K", "MATH", "MATH-500", "MetaMathQA"],
)
def test_the_rows_of_known_data_sets_are_problems(
    row: dict[str, Any], text: str, answer: str, worked: str
) -> None:
    made = as_problem(row)
    assert made["problem"] == row[text]
    assert made["answer"] == answer
    assert made["reference_solution"] == row[worked]
    assert "solution" not in made
    assert made["id"] == row.get("unique_id", hashing.content_hash(row[text]))
    for name in row.keys() - {"answer", worked}:
        assert made[name] == row[name]  # what it does not know passes through
    assert as_problem(made) == made


def test_a_problem_row_is_not_changed_in_place() -> None:
    before = dict(GSM8K)
    as_problem(GSM8K)
    assert GSM8K == before


@pytest.mark.parametrize(
    ("given", "answer"),
    [("4", "4"), (4, "4"), (0, "0"), (2.5, "2.5"), (None, None), ("", None), (" \n", None)],
)
def test_our_own_problems_keep_id_and_answer(given: object, answer: str | None) -> None:
    made = as_problem({"id": 7, "problem": "2 + 2?", "answer": given, "source": "me"})
    assert made == {"id": "7", "problem": "2 + 2?", "answer": answer, "source": "me"}


def test_a_problem_without_an_answer_has_null() -> None:
    assert as_problem({"prompt": "2 + 2?"})["answer"] is None
    assert as_problem({"problem": "Prove it.", "solution": "Clear."}) == {
        "id": hashing.content_hash("Prove it."),
        "problem": "Prove it.",
        "answer": None,
        "reference_solution": "Clear.",
    }


def test_equal_problems_have_equal_ids_and_others_have_others() -> None:
    assert hashing.content_hash("2 + 2?") == hashing.content_hash("2 + 2?")
    assert hashing.content_hash("2 + 2?") != hashing.content_hash("2 + 3?")
    assert len(hashing.content_hash("\ud800")) == 16


@pytest.mark.parametrize("row", [{}, {"problem": None}, {"problem": 3}, {"problem": ""}, {"text": "2 + 2?"}])
def test_a_row_without_a_text_is_no_problem(row: dict[str, Any]) -> None:
    told = refusal(as_problem, row)
    assert "'problem'" in told and ("no 'problem' (the question)" in told or "'problem' is" in told)


@pytest.mark.parametrize("answer", [True, ["4"], {"value": 4}])
def test_an_answer_is_text_or_a_number(answer: object) -> None:
    assert "'answer' is" in refusal(as_problem, {"problem": "2 + 2?", "answer": answer})
    told = refusal(as_problem, {"question": ["2 + 2?"], "answer": answer, "id": []})
    assert "'id' is a list, not a string; no 'problem' (the question); 'answer' is" in told
    assert "its fields are question, answer, id; --field NAME=OTHER reads another field" in told


@pytest.mark.parametrize("name", ["gold", "target", "ground_truth", "final_answer", "expected_answer"])
@pytest.mark.parametrize("value", ["4", 4, "So it is \\boxed{4}."])
def test_a_gold_answer_has_many_names(name: str, value: object) -> None:
    told: list[str] = []
    row = {"question": "2 + 2?", name: value}
    names = FieldNames(tell=told.append)
    for _ in range(2):
        made = as_problem(row, names)
        assert made == row | {"id": made["id"], "problem": "2 + 2?", "answer": "4"}
    assert told == [f"'{name}' is read as 'answer', 'question' is read as 'problem'"]


def test_a_blank_gold_answer_is_taken_from_the_worked_solution() -> None:
    assert as_problem({"problem": "2 + 2?", "answer": "", "solution": "\\boxed{4}"})["answer"] == "4"
    assert as_problem({"problem": "2 + 2?", "answer": " ", "gold": 4})["answer"] == "4"


def test_a_solution_row_passes_as_it_is() -> None:
    assert schema.check_solution(SOLUTION) is SOLUTION
    assert as_problem(SOLUTION) is SOLUTION


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": None}, "no 'id' (the name of the problem)"),
        ({"sample": None}, "no 'sample'"),
        ({"sample": "0"}, "'sample' is a string, not an integer"),
        ({"sample": True}, "'sample' is true, not an integer"),
        ({"sample": 0.5}, "'sample' is a number, not an integer"),
        ({"solution": 3}, "'solution' is an integer, not a string"),
        ({"steps": "2 + 2 = 4."}, "'steps' is a string, not a list"),
        ({"steps": {}}, "'steps' is an object, not a list"),
        ({"steps": []}, "'steps' is empty"),
        ({"steps": ["2 + 2 = 4.", ""]}, "'steps[1]' (counted from 0) must be a non-empty string"),
        ({"steps": ["2 + 2 = 4.", None]}, "'steps[1]' (counted from 0) must be a non-empty string"),
        ({"steps": ["2 + 2 = 5."]}, "'steps[0]' (counted from 0) is not in 'solution'"),
        (
            {"steps": ["The answer is: 4", "2 + 2 = 4."]},
            "'steps[1]' (counted from 0) is not in 'solution'",
        ),
    ],
)
def test_what_is_wrong_with_a_solution_is_said(change: dict[str, Any], reason: str) -> None:
    assert reason in refusal(schema.check_solution, SOLUTION | change)
    assert reason in refusal(
        schema.check_solution, {k: v for k, v in (SOLUTION | change).items() if v is not None}
    )


@pytest.mark.parametrize("rollouts", [[[0.0, 1], [1.0]], [[-2.5e300], [7]]])
def test_rollouts_hold_any_finite_rewards(rollouts: list[list[float]]) -> None:
    row = SOLUTION | {"rollouts": rollouts}
    assert schema.check_rollouts(row) is row
    assert schema.check_rollouts({"rollouts": rollouts})


@pytest.mark.parametrize(
    ("rollouts", "reason"),
    [
        (
            None,
            "no 'rollouts' (one list of rewards per step; the last holds the reward of the solution; `erprm",
        ),
        ([], "'rollouts' is empty"),
        ("[[1]]", "'rollouts' is a string, not a list"),
        ([1.0, 0.0], "'rollouts[0]' (counted from 0) must be a non-empty list of numbers"),
        ([[1.0], []], "'rollouts[1]' (counted from 0) must be a non-empty list of numbers"),
        ([[1.0], ["1"]], "'rollouts[1]' (counted from 0) contains a string, not a number"),
        ([[1.0], [True]], "'rollouts[1]' (counted from 0) contains true, not a number"),
        ([[1.0], [None]], "'rollouts[1]' (counted from 0) contains null, not a number"),
        ([[1.0], [[1.0]]], "'rollouts[1]' (counted from 0) contains a list, not a number"),
        ([[math.nan], [1.0]], "'rollouts[0]' (counted from 0) contains nan, which is not finite"),
        ([[math.inf], [1.0]], "'rollouts[0]' (counted from 0) contains inf, which is not finite"),
        ([[1.0]], "'rollouts' has 1 list for 2 steps"),
        ([[1.0]] * 3, "'rollouts' has 3 lists for 2 steps"),
    ],
)
def test_what_is_wrong_with_rollouts_is_said(rollouts: object, reason: str) -> None:
    assert reason in refusal(schema.check_rollouts, SOLUTION | {"rollouts": rollouts})


def test_steps_beside_rollouts_are_a_list() -> None:
    assert "no 'steps'" in refusal(schema.check_rollouts, {"rollouts": [[1.0]], "steps": None})
    assert "'steps' is an integer" in refusal(schema.check_rollouts, {"rollouts": [[1.0]], "steps": 1})


@pytest.mark.parametrize(
    ("check", "name"),
    [(schema.check_labels, "labels"), (schema.check_scores, "scores")],
    ids=["labels", "scores"],
)
def test_labels_and_scores_are_one_probability_per_step(check: Any, name: str) -> None:
    assert check(SOLUTION | {name: [0.0, 1]})
    for values, reason in [
        (None, f"no '{name}' (one number in [0, 1] per step; `erprm {name[:-1]}` writes it)"),
        ([0.5], f"'{name}' has 1 number for 2 steps"),
        ([0.5, 1.5], f"'{name}' contains 1.5, outside [0, 1]"),
        ([-1e-9, 0.5], f"'{name}' contains -1e-09, outside [0, 1]"),
        ([math.nan, 0.5], f"'{name}' contains nan, which is not finite"),
        (["0.5", 0.5], f"'{name}' contains a string, not a number"),
    ]:
        assert reason in refusal(check, SOLUTION | {name: values})
    assert "no 'steps'" in refusal(check, {**SOLUTION, name: [0.5], "steps": None})


def test_an_integer_will_do_for_a_float() -> None:
    assert schema.need({"reward": 1}, "reward", float, "sample") == 1
    with pytest.raises(RowError, match="'reward' is false, not a number"):
        schema.need({"reward": False}, "reward", float, "sample")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"q": "2 + 2?", "sol": "4"},
            "no 'problem' (the question); no 'solution' (the text that the policy wrote); no 'labels' (one "
            "number in [0, 1] per step; `erprm label` writes it); its fields are q, sol; --field NAME=OTHER",
        ),
        (
            SOLUTION | {"id": ["p1"], "sample": "0", "labels": [0.5, 2]},
            "'id' is a list, not a string; 'sample' is a string, not an integer; 'labels' contains 2,",
        ),
        (
            SOLUTION | {"steps": ["?", "b"], "labels": [0.5]},
            "'steps[0]' (counted from 0) is not in 'solution' after the step before it; 'labels' has 1",
        ),
        (SOLUTION | {"steps": None, "labels": [0.5]}, "no 'steps' (the solution in steps); its fields are"),
    ],
)
def test_all_that_is_wrong_with_a_row_is_said_at_once(row: dict[str, Any], reason: str) -> None:
    assert refusal(schema.check_labels, row).startswith(reason)


VALUES: list[Any] = [None, True, -1, 2, 0.5, math.nan, "", "x", [], [None], [True], ["x"], [[]], [0.5], {}]


@pytest.mark.parametrize(
    "kind",
    ["problem", "solution", "graded", "rollouts", "rates", "counts", "labels", "scores", "processbench"],
)
def test_one_wrong_value_is_a_fault_or_none(kind: str) -> None:
    check = getattr(schema, f"check_{kind}")
    good = SOLUTION | {"rollouts": [[1.0], [0.0]], "labels": [0.5, 0.5], "scores": [1, 0], "label": -1}
    good |= {"reward": 1.0, "rates": [0.5, 1], "successes": [1, 2], "trials": [2, 2]}
    assert check(good) is good
    for name in good:
        for value in VALUES:
            with suppress(RowError):
                check(good | {name: value})
        with suppress(RowError):
            check({field: good[field] for field in good if field != name})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reasoning": 5}, "'reasoning' is an integer, not a string or null"),
        ({"reasoning": "b", "steps_of": "end"}, "'steps_of' must be answer or reasoning"),
        ({"reasoning": "b", "steps_of": "reasoning"}, "is not in 'reasoning' after the step before it"),
        ({"steps_of": "reasoning"}, "is not in 'reasoning' after the step before it"),
    ],
)
def test_fields_of_thinking_models_are_checked(change: dict[str, object], message: str) -> None:
    row = {"id": "a", "problem": "p", "sample": 0, "solution": "a", "steps": ["a"]}
    assert schema.check_solution(row | {"reasoning": None, "steps_of": None})
    assert schema.check_solution(row | {"reasoning": "b a", "steps_of": "reasoning", "solution": "c"})
    with pytest.raises(RowError, match=re.escape(message)):
        schema.check_solution(row | change)
