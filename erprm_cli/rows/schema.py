"""Checks of rows: a check returns the row, or raises RowError that says all that is wrong with it.

Rows are plain dicts. Indices in messages count from 0, as in Python and jq.
"""

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct, inspect

from erprm_cli.errors import RowError
from erprm_cli.rows import kinds
from erprm_cli.rows.kinds import allows_null, derived_from, fields, meaning, type_name, written_by
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import STEPS_OF, stepped_text
from erprm_cli.terminal.text import one_line

T = TypeVar("T")
LABEL_BOUNDS = ("label_low", "label_high")
PROBLEM_FIELDS = ("id", "problem", "answer")
SHOWN_FIELDS = 20  # of a row, in a message
# What programs call the reasoning in a message or a content part of OpenAI's chat format.
REASONING_NAMES = ("reasoning_content", "reasoning", "thinking")


def check_problem(row: Row) -> Row:
    """Check a problem: an id, a question, and an answer that is text or null."""
    return _checked(row, kinds.Problem)


def check_solution(row: Row) -> Row:
    """Check a solution: its identity, and steps that are substrings of the solution in order."""
    return _checked(row, kinds.Solution, STEPS)


def check_reasoning(row: Row) -> None:
    """Check the fields of thinking models: `reasoning`, if there is one, and the part that has the steps."""
    if not isinstance(row.get("reasoning"), str | None):
        raise RowError(f"'reasoning' is {kind_name(row['reasoning'])}, not a string or null")
    if row.get("steps_of") not in (None, *STEPS_OF):
        raise RowError(f"'steps_of' must be {' or '.join(STEPS_OF)}")


def check_graded(row: Row) -> Row:
    """Check a solution with a gold answer and a reward, which rollouts need."""
    return _checked(row, kinds.GradedSolution, STEPS)


def check_rollouts(row: Row) -> Row:
    """Check a row with rollouts: one non-empty list of finite rewards, or null, per step."""
    return _checked(row, kinds.Rollouts, _per_step("rollouts", "list"))


def check_rates(row: Row) -> Row:
    """Check a row with success rates: one in [0, 1] per step."""
    return _checked(row, kinds.SuccessRates, _per_step("rates", "number"))


def check_counts(row: Row) -> Row:
    """Check a row with counts of successes: at most as many as there were trials, per step."""
    return _checked(row, kinds.SuccessCounts, _per_step("successes", "number"), COUNTS)


def check_labels(row: Row) -> Row:
    """Check a labelled solution: one label in [0, 1], or null, per step; and its intervals, if any."""
    lists = ["labels", *(name for name in LABEL_BOUNDS if row.get(name) is not None)]
    rules = [_per_step(name, "number") for name in lists]
    return _checked(row, kinds.LabelledSolution, STEPS, *rules)


def check_scores(row: Row) -> Row:
    """Check a scored solution: one score in [0, 1] per step."""
    return _checked(row, kinds.ScoredSolution, STEPS, _per_step("scores", "number"))


def check_processbench(row: Row) -> Row:
    """Check a row of ProcessBench: `problem`, `steps`, and `label`, the index of a step or -1."""
    try:
        return _checked(row, kinds.ProcessBenchRow, FIRST_WRONG_STEP)
    except RowError as error:
        raise RowError(
            f"not a ProcessBench row: needs problem, steps and label (first wrong step, -1 if none); {error}"
        ) from None


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


def without_nulls(values: Iterable[T | None]) -> list[T]:
    """Return the values that are not null: of the steps that have one.

    >>> without_nulls([0.5, None, 1.0])
    [0.5, 1.0]
    """
    return [value for value in values if value is not None]


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
    """A relation between the fields `names`: once these have the right types, `fault` says what is wrong."""

    names: tuple[str, ...]
    fault: Callable[[Row], str | None]


def _steps_fault(row: Row) -> str | None:
    try:
        check_reasoning(row)
    except RowError as error:
        return str(error)
    text, position = stepped_text(row), 0
    for index, step in enumerate(row["steps"]):
        if not step and text.strip():
            return f"{_item('steps', index)} must be a non-empty string"
        position = text.find(step, position)
        if position < 0:
            part = "reasoning" if row.get("steps_of") == "reasoning" else "solution"
            return f"{_item('steps', index)} is not in '{part}' after the step before it"
        position += len(step)
    return None


def _label_fault(row: Row) -> str | None:
    label, count = row["label"], len(row["steps"])
    if -1 <= label < count:
        return None
    return f"'label' is {label}; with {count} steps it must be in -1 .. {count - 1}"


def _counts_fault(row: Row) -> str | None:
    successes, trials = row["successes"], row["trials"]
    if len(successes) != len(trials):
        return f"'trials' has {_counted(trials, 'number')} for {_counted(successes, 'number')} of successes"
    for index, (wins, of) in enumerate(zip(successes, trials, strict=True)):
        if not 0 <= wins <= of or not of:
            return f"{_item('successes', index)} is {wins} of {of} trials"
    return None


COUNTS = Rule(("successes", "trials"), _counts_fault)
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
    """Return `row`, or raise RowError with all its faults: of fields, and of rules whose fields are sound."""
    faults: dict[str, str] = {}
    try:
        msgspec.convert(row, kind)
    except msgspec.ValidationError as error:
        faults = {field.name: fault for field in fields(kind) if (fault := _field_fault(row, field))}
        faults = faults or {"": str(error)}
    broken = [rule.fault(row) for rule in rules if not faults.keys() & set(rule.names)]
    missing = [field for field in fields(kind) if field.name in faults and row.get(field.name) is None]
    for field in missing:
        if derived_from(field) in faults:  # which is what the row really lacks
            del faults[field.name]
    told = [*faults.values(), *filter(None, broken)]
    if any(written_by(field) is None for field in missing):
        told.append(f"its fields are {fields_of(row)}; --field NAME=OTHER reads another field")
    if told:
        raise RowError("; ".join(told))
    return row


def fields_of(row: Row) -> str:
    """Return the names of the fields of a row that are not null, for messages.

    >>> fields_of({"q": 1, "sol": 2, "answer": None})
    'q, sol'
    """
    names = [one_line(name, 40) for name, value in row.items() if value is not None]
    more = [f"{len(names) - SHOWN_FIELDS} more"] * (len(names) > SHOWN_FIELDS)
    return ", ".join([*names[:SHOWN_FIELDS], *more]) or "all null"


def _field_fault(row: Row, field: inspect.Field) -> str | None:
    """Return what is wrong with one field of a row, or None."""
    name = field.name
    if row.get(name) is not None:
        try:
            _check_value(row[name], field.type, f"'{name}'")
        except RowError as error:
            return str(error)
        return None
    if field.default is None or (name in row and allows_null(field)) or not (name in row or field.required):
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
            given, wanted = kind_name(value), type_name(kind)
            if not given.endswith(f" {wanted}") and (given, wanted) != ("an integer", "number"):
                raise RowError(f"{name} is {given}, not {'an' if wanted[0] in 'io' else 'a'} {wanted}")
            if isinstance(kind, inspect.StrType) and kind.min_length and not value:
                raise RowError(f"{name} is empty")


def _check_items(values: list[Any], kind: inspect.Type, name: str) -> None:
    allows_nulls = isinstance(kind, inspect.UnionType)  # of a type and null
    if isinstance(kind, inspect.UnionType):
        kind = kind.types[0]
    if isinstance(kind, inspect.FloatType) and values:
        numbers = without_nulls(values) if allows_nulls else values
        bounded = kind.ge == 0 and kind.le == 1
        if numbers:
            check_numbers(numbers, name, *((0.0, 1.0) if bounded else ()))
    for index, value in enumerate(values):
        if value is None and allows_nulls:
            continue
        item = _item(name.strip("'"), index)
        if isinstance(kind, inspect.ListType):
            check_numbers(value, item)
        elif isinstance(kind, inspect.StrType) and not isinstance(value, str):
            raise RowError(f"{item} must be a non-empty string")
        elif isinstance(kind, inspect.IntType):
            _check_value(value, kind, item)


def _item(name: str, index: int) -> str:
    return f"'{name}[{index}]' (counted from 0)"


def _counted(values: list[Any], noun: str) -> str:
    return f"{len(values)} {noun}" + ("" if len(values) == 1 else "s")
