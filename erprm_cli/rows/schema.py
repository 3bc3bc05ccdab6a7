"""The kinds of row: what each holds, and how it is checked. Rows are plain dicts; unknown fields are kept.

problem   id, problem, answer
solution  + sample, solution, steps, prediction, reward, finish_reason, num_tokens, sampling;
            reasoning, steps_of of thinking models
rollouts  + rollouts        one list of rewards per step; the last is [reward]
labels    + labels, eta, estimator
scores    + scores, prm

A check returns the row, or raises RowError that says what is wrong. Indices in messages count from 0, as in
Python and jq.
"""

import math
from typing import Any

from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import STEPS_OF, stepped_text

# What programs call the reasoning in a message or a content part of OpenAI's chat format.
REASONING_NAMES = ("reasoning_content", "reasoning", "thinking")


def check_solution(row: Row) -> Row:
    """Check a solution: its identity, and steps that are substrings of the solution in order."""
    need(row, "id", str, "sample")
    need(row, "problem", str, "sample")
    need(row, "sample", int, "sample")
    need(row, "solution", str, "sample")
    check_reasoning(row)
    text = stepped_text(row)
    steps = need(row, "steps", list, "sample")
    if not steps:
        raise RowError("'steps' is empty; a solution has at least one step")
    position = 0
    for index, step in enumerate(steps):
        if not isinstance(step, str) or (not step and text.strip()):
            raise RowError(f"{_item('steps', index)} must be a non-empty string")
        position = text.find(step, position)
        if position < 0:
            part = "reasoning" if row.get("steps_of") == "reasoning" else "solution"
            raise RowError(f"{_item('steps', index)} is not in '{part}' after the step before it")
        position += len(step)
    return row


def check_reasoning(row: Row) -> None:
    """Check the fields of thinking models: `reasoning`, if there is one, and the part that has the steps."""
    if not isinstance(row.get("reasoning"), str | None):
        raise RowError(f"'reasoning' is {kind_name(row['reasoning'])}, not a string or null")
    if (row.get("steps_of") or STEPS_OF[0]) not in STEPS_OF:
        raise RowError(f"'steps_of' must be {' or '.join(STEPS_OF)}")


def is_correct(reward: float | None) -> bool:
    """Return whether a reward says that the answer is correct: above one half. Null (no verdict) is not.

    Rewards are 0 or 1, or between them where a grader gives part marks.

    >>> [is_correct(reward) for reward in (1.0, 0.75, 0.5, 0.0, None)]
    [True, True, False, False, False]
    """
    return reward is not None and reward > 0.5


def check_rollouts(row: Row) -> Row:
    """Check a row with rollouts: one non-empty list of finite rewards per step."""
    lists = need(row, "rollouts", list, "rollout")
    if not lists:
        raise RowError("'rollouts' is empty; it holds one list of rewards per step")
    if "steps" in row and len(lists) != len(steps := need(row, "steps", list, "sample")):
        raise RowError(f"'rollouts' has {_counted(lists, 'list')} for {_counted(steps, 'step')}")
    for index, rewards in enumerate(lists):
        check_numbers(rewards, _item("rollouts", index))
    return row


def check_labels(row: Row) -> Row:
    """Check a labelled solution: one label in [0, 1] per step."""
    check_solution(row)
    return _check_per_step(row, "labels", "label")


def check_scores(row: Row) -> Row:
    """Check a scored solution: one score in [0, 1] per step."""
    check_solution(row)
    return _check_per_step(row, "scores", "score")


def need(row: Row, name: str, kind: type, made_by: str | None = None) -> Any:
    """Return `row[name]`, which must be of type `kind` and not null.

    Raises RowError otherwise; it names the command `made_by` that writes the field.
    """
    value = row.get(name)
    if value is None:
        raise RowError(f"no '{name}'" + (f"; `erprm {made_by}` writes it" if made_by else ""))
    fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not fits or (isinstance(value, bool) and kind is not object):
        raise RowError(f"'{name}' is {kind_name(value)}, not {_KIND_NAMES[kind]}")
    return value


def check_strings(values: object, name: str) -> None:
    """Raise RowError unless `values` is a non-empty list of strings."""
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise RowError(f"{name} must be a non-empty list of strings")


def check_numbers(values: object, name: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise RowError unless `values` is a non-empty list of finite numbers from `low` to `high`."""
    if not isinstance(values, list) or not values:
        raise RowError(f"{name} must be a non-empty list of numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RowError(f"{name} contains {kind_name(value)}, not a number")
        if not math.isfinite(value):
            raise RowError(f"{name} contains {value}, which is not finite")
        if not low <= value <= high:
            raise RowError(f"{name} contains {value}, outside [{low:g}, {high:g}]")


_KIND_NAMES = {str: "a string", int: "an integer", float: "a number", list: "a list", dict: "an object"}


def kind_name(value: object) -> str:
    """Return what `value` is in JSON, with its article: "a string", "null", ..."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _KIND_NAMES.get(type(value), type(value).__name__)


def _item(name: str, index: int) -> str:
    return f"'{name}[{index}]' (counted from 0)"


def _counted(values: list[Any], noun: str) -> str:
    return f"{len(values)} {noun}" + ("" if len(values) == 1 else "s")


def _check_per_step(row: Row, name: str, made_by: str) -> Row:
    values = need(row, name, list, made_by)
    if len(values) != len(row["steps"]):
        raise RowError(f"'{name}' has {_counted(values, 'number')} for {_counted(row['steps'], 'step')}")
    check_numbers(values, f"'{name}'", 0.0, 1.0)
    return row
