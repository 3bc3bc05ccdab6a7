"""The kinds of row: one declaration each. Unknown fields are kept.

From these declarations come the checks of `rows.schema`, their messages and the tables of docs/rows.md.
"""

import sys
from functools import cache
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, inspect

Number = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]  # finite
Probability = Annotated[float, Meta(ge=0, le=1)]
Rewards = Annotated[list[Number], Meta(min_length=1)]
ProblemText = Annotated[str, Meta(min_length=1, description="the question")]
Identity = Annotated[str, Meta(description="the name of the problem", extra={"derived_from": "problem"})]
Steps = Annotated[
    list[str],
    Meta(min_length=1, description="the solution in steps", extra={"derived_from": "solution"}),
]


class Problem(Struct):
    """A problem, as you write it."""

    id: Identity
    problem: ProblemText
    answer: Annotated[str | None, Meta(description="the final answer (gold); null if unknown")]


class Solution(Struct):
    """A solution of a problem."""

    id: Identity
    problem: ProblemText
    sample: Annotated[
        int,
        Meta(description="which solution of the problem this is, from 0", extra={"derived_from": "solution"}),
    ]
    solution: Annotated[str, Meta(description="the text that the policy wrote")]
    steps: Steps


class GradedSolution(Solution):
    """A solution that was graded: written by `sample`; `grade` adds what other solutions lack."""

    answer: Annotated[str, Meta(min_length=1, description="the final answer (gold)")]
    reward: Annotated[
        Number, Meta(description="1.0 if the prediction equals the answer, else 0.0", extra={"by": "grade"})
    ]
    reasoning: Annotated[
        str | None, Meta(description="what a thinking model wrote before the solution; else missing")
    ] = None
    steps_of: Annotated[
        str | None, Meta(description="reasoning, if the steps are those of the reasoning; else missing")
    ] = None
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
        list[Rewards | None],
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
        list[Probability | None], Meta(description="one number in [0, 1] per step", extra={"by": "label"})
    ]
    label_low: Annotated[
        list[Probability | None] | None,
        Meta(description="the lower ends of 95 % intervals of the labels, if `label --intervals` made them"),
    ] = None
    label_high: Annotated[
        list[Probability | None] | None, Meta(description="the upper ends of these intervals")
    ] = None


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


class SuccessRates(Struct):
    """Success rates of your own, which `label` and `train` accept in place of rollouts."""

    rates: Annotated[
        list[Probability], Meta(min_length=1, description="the share of right completions after each step")
    ]
    steps: Steps | UnsetType = UNSET


class SuccessCounts(Struct):
    """Counts of your own, which `label` and `train` accept in place of rollouts."""

    successes: Annotated[
        list[int], Meta(min_length=1, description="the number of right completions after each step")
    ]
    trials: Annotated[
        list[int],
        Meta(min_length=1, description="the number of completions after each step, or one number for all"),
    ]
    steps: Steps | UnsetType = UNSET


KINDS: tuple[type[Struct], ...] = (
    Problem,
    Solution,
    GradedSolution,
    Rollouts,
    SuccessRates,
    SuccessCounts,
    LabelledSolution,
    ScoredSolution,
    ProcessBenchRow,
)


@cache
def fields(kind: type[Struct]) -> tuple[inspect.Field, ...]:
    """Return the fields of a kind of row, with their types, meanings and the command that writes them."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info.fields


@cache
def field_types() -> dict[str, str]:
    """Return the type of every field of every kind, in words."""
    return {field.name: type_name(field.type) for kind in KINDS for field in fields(kind)}


def is_text(name: str) -> bool:
    """Return whether a field is a string in rows of erprm, or not one of their fields."""
    return field_types().get(name, "string").startswith("string")


def allows_null(field: inspect.Field) -> bool:
    """Return whether a field may be null."""
    return type_name(field.type).endswith("or null")


def meaning(field: inspect.Field) -> str:
    """Return what a field of a kind of row means."""
    assert isinstance(field.type, inspect.Metadata) and field.type.extra_json_schema
    return str(field.type.extra_json_schema["description"])


def written_by(field: inspect.Field) -> str | None:
    """Return the command that writes a field of a kind of row, or None if it may come from elsewhere."""
    return _extra(field, "by")


def derived_from(field: inspect.Field) -> str | None:
    """Return the field that a field is derived from where a row lacks it, or None."""
    return _extra(field, "derived_from")


def _extra(field: inspect.Field, key: str) -> str | None:
    assert isinstance(field.type, inspect.Metadata)
    return (field.type.extra or {}).get(key)


TYPE_NAMES = {
    inspect.StrType: "string",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.DictType: "object",
    inspect.NoneType: "null",
}


def type_name(kind: inspect.Type) -> str:
    """Return a type in words, without an article: "list of strings", "string or null"."""
    match kind:
        case inspect.Metadata():
            return type_name(kind.type)
        case inspect.UnionType():
            return " or ".join(map(type_name, kind.types))
        case inspect.ListType():
            return f"list of {_plural(kind.item_type)}"
        case _:
            return TYPE_NAMES[type(kind)]


def _plural(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        return " or ".join(map(_plural, kind.types))
    name = type_name(kind)
    return name.replace("list", "lists", 1) if " " in name else f"{name}s"
