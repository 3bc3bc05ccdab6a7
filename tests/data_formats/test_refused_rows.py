"""Rows of each format that cannot be used, and the reason that is given."""

import json
from typing import Any

import pytest

from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.data_formats.registry import BY_NAME
from erprm_cli.errors import RowError

TREE = {"reasoning_steps": {"text": "Q", "mc_value": 0.5, "children": []}}
STATE = {"solution_prefix": "Q", "mc_value": 0.5}
CHOSEN = {"completions": [{"text": "a", "rating": 2}], "chosen_completion": 0}
SOLUTIONS = {"instruction": "Q", "golden_solution": None, "golden_answer": None}


def chat(*turns: dict[str, str]) -> dict[str, Any]:
    return {"messages": list(turns), "reward": 1.0}


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        (
            "rlhflow-test",
            {"prompt": "Q", "answers": ["a"], "label": [1], "step_scores": [[0.5], [0.5]]},
            "'step_scores' must be a list with one entry per answer",
        ),
        ("prm800k", {"question": {"problem": "Q"}, "label": {"steps": []}}, "'label' has no rated step"),
        (
            "prm800k",
            {"question": {"problem": "Q"}, "label": {"steps": [CHOSEN]}},
            "'rating' is 2, not -1, 0 or 1",
        ),
        ("math-aps", {"question": "Q", "reasoning_steps": [1]}, "'reasoning_steps[0]' must be an object"),
        (
            "math-aps",
            {"question": "Q", "reasoning_steps": [STATE, STATE | {"solution_prefix": "R"}]},
            "'solution_prefix' of 'reasoning_steps[1]' does not begin with 'question'",
        ),
        (
            "math-aps",
            {"question": "Q", "reasoning_steps": [STATE]},
            "'reasoning_steps' has no step after the question",
        ),
        ("math-aps-tree", TREE, "'children' is empty: the tree has no step after the question"),
        (
            "math-aps-tree",
            {"reasoning_steps": TREE["reasoning_steps"] | {"children": [1]}},
            "'children' must be a list of objects",
        ),
        ("distilabel", SOLUTIONS | {"solutions": "no JSON"}, "'solutions' is a string but not JSON"),
        ("distilabel", SOLUTIONS | {"solutions": []}, "'solutions' must be a non-empty list of solutions"),
        ("dump-chat", chat({"role": "user"}), "'messages' has a turn without 'content'"),
        (
            "dump-chat",
            chat({"role": "user", "content": "Q"}),
            "'messages' must have one turn of the user and one of the assistant",
        ),
        ("openr", {"question": "Q", "process": " ", "label": ["+"]}, "no 'ки', which must end every step"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:40],
)
def test_the_reason_names_the_field(name: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        list(ForeignRows(name).of_format(json.loads(json.dumps(row)), BY_NAME[name]))
    assert str(caught.value) == f"{name}: {reason}"
