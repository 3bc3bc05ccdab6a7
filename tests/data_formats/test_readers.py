"""What each reader makes of its rows, and what it refuses."""

from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from typing import Any

import pytest

from erprm_cli.data_formats.converter import Converter
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row
from tests.data_formats.format_rows import ROWS, SAMPLES, TEXT, read, refusal


def test_prm800k_branches_at_every_rated_completion() -> None:
    foreign = ForeignRows()
    rows = list(foreign(SAMPLES["prm800k"][0]))
    # 5 wrong second steps, 4 other last steps, and the path that was chosen, with a step of the labeler in it
    assert [len(row["steps"]) for row in rows] == [2] * 5 + [6] * 5
    assert [row["labels"][-1] for row in rows] == [0.0] * 5 + [1.0] * 5
    assert rows[-1]["steps"][1] == "We have $3p+e=1.24$ and $5p+e=1.82$." and rows[-1]["labels"] == [1.0] * 6
    assert rows[5]["steps"][-1] == "We could also solve this system by substitution."  # rated 0: good
    assert foreign.notes() == ["1 steps of prm800k that a labeler wrote count as good"]


def test_math_aps_prefixes_become_chains_of_steps() -> None:
    row, foreign = SAMPLES["math_aps"][0], ForeignRows()
    rows = list(foreign(row))
    values: dict[str, list[float]] = {}
    for state in row["reasoning_steps"]:
        values.setdefault(state["solution_prefix"], []).append(state["mc_value"])
    assert len(rows) == 7 and {len(own["steps"]) for own in rows} == {1, 2, 3}
    for own in rows:
        whole = next(text for text in values if text.endswith(own["solution"]))
        assert own["labels"][-1] == sum(values[whole]) / len(values[whole])
    assert foreign.notes() == ["3 prefixes of math-aps have several values; their mean is used"]


@pytest.mark.parametrize(("label", "labels"), [(-1, [1.0, 1.0]), (0, [0.0, 0.0]), (1, [1.0, 0.0])])
def test_processbench_labels_the_steps_from_the_first_wrong_one(label: int, labels: list[float]) -> None:
    row = {"id": "x-1", "problem": "p", "steps": ["a", "b"], "label": label, "final_answer_correct": True}
    (made,) = read(row)
    assert made["labels"] == labels and made["label"] == label and made["final_answer_correct"] is True
    assert (made["id"], made["reward"], made["solution"]) == ("x-1", 1.0, "a\n\nb")
    assert "'label' is 2, which is not in -1 .. 1" in refusal(row | {"label": 2})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": TEXT, "value": [0.5]}, "er-prm: 'labels' has 1 number for 2 steps"),
        ({"text": TEXT, "value": [0.5, 1.5]}, "'value' contains 1.5, outside [0, 1]"),
        ({"text": TEXT + " more", "value": [1, 1]}, "text after the last 'ки'"),
        ({"text": "Tom has 2. He gets 3. ки", "value": [1]}, "no ' Step 1:' before the first label"),
        ({"text": "Tom Step 1: has Step 1: x ки", "value": [1]}, "2 ' Step 1:' before the first label"),
        ({"text": "Tom ки has 2. Step 1: x ки", "value": [1, 1]}, "'ки' is in the problem"),
        ({"text": " Step 1: x ки", "value": [1]}, "no problem before 'Step 1:'"),
        ({"text": "T. Step 1: x ки ки", "value": [1, 1]}, "step 2 is empty"),
        ({"text": TEXT, "value": [1, 1], "problem": "Ann has 2."}, "does not begin with 'problem'"),
        ({"input": "T. Step 1: x ки", "label": "T. Step 1: x *"}, "'label' has '*' as label 1, not + or -"),
        (
            {"input": "T. Step 1: x ки", "label": "T. Step 1: y +"},
            "'label' differs from 'input' before label 1",
        ),
        ({"input": "T. Step 1: x ки", "label": "T. Step 1: x"}, "'label' differs from 'input'"),
        ({"input": "T. Step 1: x ки", "label": "T. Step 1: x ++"}, "differs from 'input' after the last"),
        ({"input": TEXT, "value": ["+", 1]}, "'value' has 1 as label 2, not + or -"),
        ({"prompt": "p", "completions": ["a"], "labels": [None]}, "'labels' contains null"),
        (
            {"prompt": "p", "completions": [], "labels": []},
            "'completions' must be a non-empty list",
        ),
        ({"conversations": [{"role": "user", "content": "p"}]}, "'conversations' has 1 turns"),
        (
            {"conversations": [{"role": "user", "content": "p"}] * 2},
            "'conversations[1]' must be a turn of the assistant",
        ),
        ({"prompt": "p", "answers": ["a"], "label": []}, "'label' has 0 entries for 1 answers"),
        ({"question": "q", "process": "Step: 2: x ки", "label": 1}, "'label' is an integer, not a list"),
        ({"prompt": "p", "responses": ["a"], "rewards": [1, 2]}, "'rewards' must be a list with one number"),
        ({"instruction": "i", "solutions": [["a +", "b"]]}, "steps with + or - at the end and steps without"),
        ({"messages": [{"role": "user", "content": "p"}]}, "'messages' must have one turn"),
    ],
)
def test_a_dirty_or_ambiguous_row_is_refused_with_the_reason(row: Row, reason: str) -> None:
    assert reason in refusal(row)


def test_known_problems_show_where_the_solution_begins() -> None:
    row = {"text": "Tom has 2. He gets 3. ки", "value": [1]}
    assert "--problems FILE" in refusal(row)
    (made,) = read(row, problems={"Tom has 2.", "Ann has 2."})
    assert (made["problem"], made["solution"]) == ("Tom has 2.", "He gets 3.")
    assert "2 of the problems" in refusal(row, problems={"Tom has 2.", "Tom"})


def test_a_tag_without_a_space_before_it_is_reported() -> None:
    foreign = ForeignRows()
    (made,) = foreign({"text": "T. Step 1: (x)ки", "value": [1]})
    assert made["steps"] == ["Step 1: (x)"]
    assert foreign.notes() == ["1 texts have 'ки' without a space before it"]


def test_step_scores_of_a_test_set_are_scores() -> None:
    row = ROWS["rlhflow-test"][0] | {"step_scores": [[0.5, 0.25], [1.0, 0.0]]}
    assert [own["scores"] for own in read(row)] == [[0.5, 0.25], [1.0, 0.0]]


VALUES: list[Any] = [None, True, 0, -1, 10**6, 0.5, "", "x", "ки", [], [None], ["x"], [[]], {}, {"a": 1}]


def mutations(value: Any) -> Iterator[Any]:
    """Yield copies of a JSON value in which one value at any depth is another one, or is missing."""
    yield from VALUES
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            rest = copy(value)
            del rest[key]
            yield rest
            for other in mutations(value[key]):
                changed = copy(value)
                changed[key] = other
                yield changed


@pytest.mark.parametrize("name", ROWS)
def test_a_row_with_one_wrong_value_is_read_or_refused(name: str) -> None:
    """By the reader of the format, and by all that detect formats by the fields."""
    row = ROWS[name][0]
    if name in ("math-aps", "prm800k"):  # real rows with a hundred states
        row = shortened(row)
    tried = [changed for changed in mutations(row) if isinstance(changed, dict)]
    assert len(tried) > 20
    for changed in tried:
        for read_row in (ForeignRows(name), ForeignRows(), Converter().expand):
            with suppress(RowError):
                assert all(isinstance(own, dict) for own in read_row(changed))
        with suppress(RowError):
            assert isinstance(as_problem(changed), dict)


def shortened(value: Any) -> Any:
    """Return a JSON value whose lists have at most 2 elements."""
    if isinstance(value, dict):
        return {name: shortened(item) for name, item in value.items()}
    return [shortened(item) for item in value[:2]] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"chosen_completion": 9}, "'chosen_completion' is 9, with 2 completions"),
        ({"chosen_completion": -1}, "'chosen_completion' is -1, with 2 completions"),
        ({"chosen_completion": True}, "'chosen_completion' is True"),
        ({"chosen_completion": None, "human_completion": "text"}, "'human_completion' is a string, not an"),
        ({"completions": "text"}, "'completions' must be a list of objects"),
        ({"completions": ["text"]}, "'completions' must be a list of objects"),
    ],
)
def test_prm800k_with_a_wrong_step_is_refused(change: Row, told: str) -> None:
    completions = [{"text": "a", "rating": 1}, {"text": "b", "rating": -1}]
    step = {"completions": completions, "chosen_completion": 0, "human_completion": None}
    row = {"question": {"problem": "p"}, "label": {"steps": [step | change]}}
    assert told in refusal(row)


def test_prmbench_keeps_rows_whose_wrong_step_is_beyond_the_last() -> None:
    foreign = ForeignRows()
    row = ROWS["prmbench"][0]
    (made,) = foreign(row | {"error_steps": [2, 9]})
    assert made["labels"] == [1.0, 0.0, 1.0]
    (made,) = foreign(row | {"error_steps": [4]})
    assert made["labels"] == [1.0, 1.0, 1.0]
    (made,) = foreign(row | {"modified_process": ["a", " ", "c"], "error_steps": [3]})
    assert (made["steps"], made["labels"]) == (["a", "c"], [1.0, 0.0])
    assert foreign.notes() == [
        "2 rows of prmbench name a wrong step beyond the last, which is ignored",
        "1 empty steps of prmbench were left out",
    ]
    assert "'modified_process' has only empty steps" in refusal(row | {"modified_process": [" ", ""]})
    for wrong in ([0], [True], ["2"], 2):
        assert "'error_steps'" in refusal(row | {"error_steps": wrong})


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_in_a_chat_is_a_field_of_its_own(name: str) -> None:
    turn = {"role": "assistant", "content": "So 5.", name: "He gets 3."}
    (row,) = read({"messages": [{"role": "user", "content": "Tom has 2."}, turn]})
    assert (row["reasoning"], row["solution"], row["steps"]) == ("He gets 3.", "So 5.", ["So 5."])
