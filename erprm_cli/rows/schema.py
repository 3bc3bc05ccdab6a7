"""The kinds of row: what each holds and how it is checked. Plain dicts, so unknown fields pass through.

problem   id, problem, answer
solution  + sample, solution, steps, prediction, reward, finish_reason, num_tokens, sampling
rollouts  + rollouts        one list of rewards per step; the last is [reward]
labels    + labels, eta, estimator
scores    + scores, prm
"""

import math
from collections.abc import Iterable
from typing import Any

from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row


def solution(row: Row) -> Row:
    """Check a solution row: who it is, and steps that stand in the solution in order."""
    need(row, "id", str, "sample")
    need(row, "problem", str, "sample")
    need(row, "sample", int, "sample")
    text = need(row, "solution", str, "sample")
    steps = need(row, "steps", list, "sample")
    if not steps:
        raise RowError("'steps' is empty; a solution has at least one step")
    position = 0
    for number, step in enumerate(steps):
        if not isinstance(step, str) or (not step and text.strip()):
            raise RowError(f"'steps' {number + 1} is no text")
        position = text.find(step, position)
        if position < 0:
            raise RowError(f"'steps' {number + 1} is not in 'solution' after the step before it")
        position += len(step)
    return row


def keys(rows: Iterable[Row]) -> set[tuple[str, int]]:
    """Return what identifies each solution, (id, sample): of rows that are there, what need not be made."""
    return {(row["id"], row["sample"]) for row in rows}


def is_correct(reward: float | None) -> bool:
    """Return whether a reward says that the answer is correct: above one half. Null (no verdict) is not.

    Rewards are 0 or 1, or between them where a grader gives part marks.

    >>> [is_correct(reward) for reward in (1.0, 0.75, 0.5, 0.0, None)]
    [True, True, False, False, False]
    """
    return reward is not None and reward > 0.5


def rollouts(row: Row) -> Row:
    """Check a rollouts row: one list of finite rewards per step, none of them empty."""
    lists = need(row, "rollouts", list, "rollout")
    if not lists:
        raise RowError("'rollouts' is empty; it holds one list of rewards per step")
    if "steps" in row and len(lists) != len(steps := need(row, "steps", list, "sample")):
        raise RowError(f"'rollouts' has {_counted(lists, 'list')} for {_counted(steps, 'step')}")
    for number, rewards in enumerate(lists, start=1):
        check_numbers(rewards, f"'rollouts' of step {number}")
    return row


def labels(row: Row) -> Row:
    """Check a labelled solution: as many labels as steps, each in [0, 1]."""
    solution(row)
    return _per_step(row, "labels", "label")


def scores(row: Row) -> Row:
    """Check a scored solution: as many scores as steps, each in [0, 1]."""
    solution(row)
    return _per_step(row, "scores", "score")


def need(row: Row, name: str, kind: type, made_by: str | None = None) -> Any:
    """Return `row[name]`, or raise RowError that names the command which writes it, if one does."""
    value = row.get(name)
    if value is None:
        raise RowError(f"no '{name}'" + (f"; `erprm {made_by}` writes it" if made_by else ""))
    fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not fits or (isinstance(value, bool) and kind is not object):
        raise RowError(f"'{name}' is {kind_name(value)}, not {_KIND_NAMES[kind]}")
    return value


def check_numbers(values: object, name: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise RowError unless `values` is a non-empty list of finite numbers from `low` to `high`."""
    if not isinstance(values, list) or not values:
        raise RowError(f"{name} must be a list of numbers with at least one in it")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RowError(f"{name} holds {kind_name(value)}, not a number")
        if not math.isfinite(value):
            raise RowError(f"{name} holds {value}, which is not finite")
        if not low <= value <= high:
            raise RowError(f"{name} holds {value}, outside [{low:g}, {high:g}]")


_KIND_NAMES = {str: "text", int: "an integer", float: "a number", list: "a list", dict: "an object"}


def kind_name(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _KIND_NAMES.get(type(value), type(value).__name__)


def _counted(values: list[Any], noun: str) -> str:
    return f"{len(values)} {noun}" + ("" if len(values) == 1 else "s")


def _per_step(row: Row, name: str, made_by: str) -> Row:
    values = need(row, name, list, made_by)
    if len(values) != len(row["steps"]):
        raise RowError(f"'{name}' has {_counted(values, 'number')} for {_counted(row['steps'], 'step')}")
    check_numbers(values, f"'{name}'", 0.0, 1.0)
    return row
