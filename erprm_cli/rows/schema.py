"""The kinds of row: one declaration each, from which the checks, their messages and docs/rows.md are made.

Rows are plain dicts, and unknown fields are kept. A check returns the row, or raises RowError that says all
that is wrong with it. Indices in messages count from 0, as in Python and jq.
"""

import math
import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, inspect

from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row

Number = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]  # finite
Probability = Annotated[float, Meta(ge=0, le=1)]
Rewards = Annotated[list[Number], Meta(min_length=1)]
ProblemText = Annotated[str, Meta(min_length=1, description="the question")]
Steps = Annotated[list[str], Meta(min_length=1, description="the solution in steps")]


class Problem(Struct):
    """A problem, as you write it."""

    id: Annotated[str, Meta(description="the name of the problem")]
    problem: ProblemText
    answer: Annotated[str | None, Meta(description="the final answer (gold); null if unknown")]


class Solution(Struct):
    """A solution of a problem."""

    id: Annotated[str, Meta(description="the name of the problem")]
    problem: ProblemText
    sample: Annotated[int, Meta(description="which solution of the problem this is, from 0")]
    solution: Annotated[str, Meta(description="the text that the policy wrote")]
    steps: Steps


class GradedSolution(Solution):
    """A solution that was graded: written by `sample`; `grade` adds what other solutions lack."""

    answer: Annotated[str, Meta(min_length=1, description="the final answer (gold)")]
    reward: Annotated[
        Number, Meta(description="1.0 if the prediction equals the answer, else 0.0", extra={"by": "grade"})
    ]
    prediction: Annotated[str | None, Meta(description="the final answer found in the text")] = None
    finish_reason: Annotated[
        str | None, Meta(description="stop, or length if `--max-tokens` was reached")
    ] = None
    num_tokens: Annotated[int | None, Meta(description="the length of the solution in tokens")] = None
    sampling: Annotated[
        dict[str, Any] | None, Meta(description="model, temperature, seed and the other settings")
    ] = None


class Rollouts(Struct):
    """A row that can be labelled: written by `rollout`."""

    rollouts: Annotated[
        list[Rewards],
        Meta(
            min_length=1,
            description="one list of rewards per step; the last holds the reward of the solution",
            extra={"by": "rollout"},
        ),
    ]
    steps: Steps | UnsetType = UNSET


class LabelledSolution(Solution):
    """A solution with a label for each step: written by `label`."""

    labels: Annotated[
        list[Probability], Meta(description="one number in [0, 1] per step", extra={"by": "label"})
    ]


class ScoredSolution(Solution):
    """A solution with a score for each step: written by `score`."""

    scores: Annotated[
        list[Probability], Meta(description="one number in [0, 1] per step", extra={"by": "score"})
    ]


class ProcessBenchRow(Struct):
    """A row of ProcessBench, which `processbench` judges PRMs by."""

    problem: ProblemText
    steps: Steps
    label: Annotated[int, Meta(description="the index of the first wrong step, from 0; -1 if none")]


def check_problem(row: Row) -> Row:
    """Check a problem: a question, and an answer that is text or null."""
    return _checked(row, Problem)


def check_solution(row: Row) -> Row:
    """Check a solution: its identity, and steps that are substrings of the solution in order."""
    return _checked(row, Solution, STEPS)


def check_graded(row: Row) -> Row:
    """Check a solution with a gold answer and a reward, which rollouts need."""
    return _checked(row, GradedSolution, STEPS)


def check_rollouts(row: Row) -> Row:
    """Check a row with rollouts: one non-empty list of finite rewards per step."""
    return _checked(row, Rollouts, _per_step("rollouts", "list"))


def check_labels(row: Row) -> Row:
    """Check a labelled solution: one label in [0, 1] per step."""
    return _checked(row, LabelledSolution, STEPS, _per_step("labels", "number"))


def check_scores(row: Row) -> Row:
    """Check a scored solution: one score in [0, 1] per step."""
    return _checked(row, ScoredSolution, STEPS, _per_step("scores", "number"))


def check_processbench(row: Row) -> Row:
    """Check a row of ProcessBench: `problem`, `steps`, and `label`, the index of a step or -1."""
    try:
        return _checked(row, ProcessBenchRow, FIRST_WRONG_STEP)
    except RowError as error:
        raise RowError(
            f"not a ProcessBench row: needs problem, steps and label (first wrong step, -1 if none); {error}"
        ) from None


def solution_keys(rows: Iterable[Row]) -> set[tuple[str, int]]:
    """Return (id, sample), which identifies a solution, of every row."""
    return {(row["id"], row["sample"]) for row in rows}


def is_correct(reward: float | None) -> bool:
    """Return whether a reward says that the answer is correct: above one half. Null (no verdict) is not.

    Rewards are 0 or 1, or between them where a grader gives part marks.

    >>> [is_correct(reward) for reward in (1.0, 0.75, 0.5, 0.0, None)]
    [True, True, False, False, False]
    """
    return reward is not None and reward > 0.5


# Single values


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


# What is wrong with a row


class Rule(NamedTuple):
    """A relation between fields: `fault` returns what is wrong, or None. It needs `names` of the right type."""

    names: tuple[str, ...]
    fault: Callable[[Row], str | None]


def _steps_fault(row: Row) -> str | None:
    text, position = row["solution"], 0
    for index, step in enumerate(row["steps"]):
        if not step and text.strip():
            return f"{_item('steps', index)} must be a non-empty string"
        position = text.find(step, position)
        if position < 0:
            return f"{_item('steps', index)} is not in 'solution' after the step before it"
        position += len(step)
    return None


def _label_fault(row: Row) -> str | None:
    label, count = row["label"], len(row["steps"])
    if -1 <= label < count:
        return None
    return f"'label' is {label}; with {count} steps it must be in -1 .. {count - 1}"


STEPS = Rule(("solution", "steps"), _steps_fault)
FIRST_WRONG_STEP = Rule(("steps", "label"), _label_fault)


@cache
def _per_step(name: str, noun: str) -> Rule:
    """Return the rule that the list `name` has one `noun` per step, where a row has steps."""

    def fault(row: Row) -> str | None:
        if "steps" not in row or len(row[name]) == len(row["steps"]):
            return None
        return f"'{name}' has {_counted(row[name], noun)} for {_counted(row['steps'], 'step')}"

    return Rule((name, "steps"), fault)


def _checked(row: Row, kind: type[Struct], *rules: Rule) -> Row:
    """Return `row`, or raise RowError with all faults: of single fields and, where these are sound, of rules."""
    faults: dict[str, str] = {}
    try:
        msgspec.convert(row, kind)
    except msgspec.ValidationError:
        faults = {field.name: fault for field in fields(kind) if (fault := _field_fault(row, field))}
    broken = (rule.fault(row) for rule in rules if not faults.keys() & set(rule.names))
    told = [*faults.values(), *filter(None, broken)]
    if told:
        raise RowError("; ".join(told))
    return row


@cache
def fields(kind: type[Struct]) -> tuple[inspect.Field, ...]:
    """Return the fields of a kind of row, with their types, meanings and the command that writes them."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info.fields


def meaning(field: inspect.Field) -> str:
    """Return what a field of a kind of row means."""
    assert isinstance(field.type, inspect.Metadata) and field.type.extra_json_schema
    return str(field.type.extra_json_schema["description"])


def written_by(field: inspect.Field) -> str | None:
    """Return the command that writes a field of a kind of row, or None if it may come from elsewhere."""
    assert isinstance(field.type, inspect.Metadata)
    return field.type.extra and field.type.extra["by"]


def _field_fault(row: Row, field: inspect.Field) -> str | None:
    """Return what is wrong with one field of a row, or None."""
    name = field.name
    if row.get(name) is not None:
        try:
            _check_value(row[name], field.type, f"'{name}'")
        except RowError as error:
            return str(error)
        return None
    if field.default is None or (name not in row and not field.required):
        return None
    maker = written_by(field)
    return f"no '{name}' ({meaning(field)}" + (f"; `erprm {maker}` writes it)" if maker else ")")


def _check_value(value: object, kind: inspect.Type, name: str) -> None:
    """Raise RowError unless a value is of the type of its field."""
    match kind:
        case inspect.Metadata():
            _check_value(value, kind.type, name)
        case inspect.UnionType():  # of a type and null
            _check_value(value, kind.types[0], name)
        case inspect.ListType():
            if not isinstance(value, list):
                raise RowError(f"{name} is {kind_name(value)}, not a list")
            if not value and kind.min_length:
                raise RowError(f"{name} is empty")
            _check_items(value, kind.item_type, name)
        case inspect.FloatType() if kind_name(value) == "a number" and not math.isfinite(value):  # type: ignore[arg-type]
            raise RowError(f"{name} is {value}, which is not finite")
        case inspect.FloatType() | inspect.StrType() | inspect.IntType() | inspect.DictType():
            wanted = _TYPES[type(kind)]
            if kind_name(value) != wanted and (wanted, kind_name(value)) != ("a number", "an integer"):
                raise RowError(f"{name} is {kind_name(value)}, not {wanted}")
            if isinstance(kind, inspect.StrType) and kind.min_length and not value:
                raise RowError(f"{name} is empty")


def _check_items(values: list[Any], kind: inspect.Type, name: str) -> None:
    if isinstance(kind, inspect.FloatType) and values:
        bounded = kind.ge == 0 and kind.le == 1
        check_numbers(values, name, *((0.0, 1.0) if bounded else ()))
    for index, value in enumerate(values):
        item = _item(name.strip("'"), index)
        if isinstance(kind, inspect.ListType):
            check_numbers(value, item)
        elif isinstance(kind, inspect.StrType) and not isinstance(value, str):
            raise RowError(f"{item} must be a non-empty string")


_TYPES = {
    inspect.StrType: "a string",
    inspect.IntType: "an integer",
    inspect.FloatType: "a number",
    inspect.DictType: "an object",
}


def type_name(kind: inspect.Type) -> str:
    """Return the type of a field in words, without an article: "list of strings", "string or null"."""
    match kind:
        case inspect.Metadata():
            return type_name(kind.type)
        case inspect.UnionType():
            return " or ".join(map(type_name, kind.types))
        case inspect.ListType():
            item = type_name(kind.item_type)
            return "list of " + (item.replace("list", "lists", 1) if " " in item else f"{item}s")
        case inspect.NoneType():
            return "null"
        case _:
            return _TYPES[type(kind)].partition(" ")[2]


def _item(name: str, index: int) -> str:
    return f"'{name}[{index}]' (counted from 0)"


def _counted(values: list[Any], noun: str) -> str:
    return f"{len(values)} {noun}" + ("" if len(values) == 1 else "s")
