"""The kinds of row: what each holds and how it is checked. Plain dicts, so unknown fields pass through.

problem   id, problem, answer
solution  + sample, solution, steps, prediction, reward, finish_reason, num_tokens, sampling
rollouts  + rollouts        one list of rewards per step; the last is [reward]
labels    + labels, eta, estimator
scores    + scores, prm
"""

import hashlib
import math
import re
from typing import Any

from erprm_cli.errors import RowError
from erprm_cli.jsonl import Row

PROBLEM_NAMES = (
    "problem",
    "question",
    "query",
    "prompt",
)  # ours and MATH, GSM8K, MetaMathQA, others
ID_NAMES = ("id", "unique_id")
BOXED = re.compile(r"\\boxed\b|\\fbox\b")


def problem(row: Row) -> Row:
    """Return `row` with `id`, `problem` and `answer`; GSM8K, MATH, MATH-500 and MetaMathQA are understood.

    A worked solution that came in `answer`, `solution` or `response` moves to `reference_solution`, as
    `answer` is the final answer alone and `solution` what a model writes. `answer` is null when unknown.
    """
    text = next((row[name] for name in PROBLEM_NAMES if isinstance(row.get(name), str)), None)
    if not text:
        raise RowError(f"no problem text; it may be called {', '.join(PROBLEM_NAMES)}")
    if "sample" in row:  # made by `sample`: whatever it holds is already ours
        return solution(row)
    from erprm_cli.answers import extract  # light, but records must not need it to check a row

    row = dict(row)
    answer = row.get("answer")
    worked = next((row[name] for name in ("answer", "solution", "response") if _worked(row, name)), None)
    if worked is not None:
        for name in ("answer", "solution", "response"):
            if row.get(name) == worked:
                del row[name]
        row["reference_solution"] = worked
        answer = answer if answer is not None and answer != worked else extract(worked)
    row["id"] = str(next((row[name] for name in ID_NAMES if row.get(name) is not None), content_hash(text)))
    row["problem"] = text
    row["answer"] = None if answer is None else _number_text(answer)
    return row


def content_hash(text: str) -> str:
    """Return 16 hex digits that name `text`."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


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
        if not isinstance(step, str) or not step:
            raise RowError(f"'steps' {number + 1} is no text")
        position = text.find(step, position)
        if position < 0:
            raise RowError(f"'steps' {number + 1} is not in 'solution' after the step before it")
        position += len(step)
    return row


def rollouts(row: Row) -> Row:
    """Check a rollouts row: one list of finite rewards per step, none of them empty."""
    lists = need(row, "rollouts", list, "rollout")
    if not lists:
        raise RowError("'rollouts' is empty; it holds one list of rewards per step")
    if "steps" in row and len(lists) != len(row["steps"]):
        raise RowError(f"'rollouts' has {len(lists)} lists for {len(row['steps'])} steps")
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


def need(row: Row, name: str, kind: type, made_by: str) -> Any:
    """Return `row[name]`, or raise RowError that names the command which writes it."""
    value = row.get(name)
    if value is None:
        raise RowError(f"no '{name}'; `erprm {made_by}` writes it")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RowError(f"'{name}' is {_kind_name(value)}, not {_KIND_NAMES[kind]}")
    return value


def check_numbers(values: object, name: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise RowError unless `values` is a non-empty list of finite numbers from `low` to `high`."""
    if not isinstance(values, list) or not values:
        raise RowError(f"{name} must be a list of numbers with at least one in it")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RowError(f"{name} holds {_kind_name(value)}, not a number")
        if not low <= value <= high or not math.isfinite(value):
            raise RowError(f"{name} holds {value}, outside [{low:g}, {high:g}]")


_KIND_NAMES = {str: "text", int: "an integer", float: "a number", list: "a list", dict: "an object"}


def _kind_name(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _KIND_NAMES.get(type(value), type(value).__name__)


def _per_step(row: Row, name: str, made_by: str) -> Row:
    values = need(row, name, list, made_by)
    if len(values) != len(row["steps"]):
        raise RowError(f"'{name}' has {len(values)} numbers for {len(row['steps'])} steps")
    check_numbers(values, f"'{name}'", 0.0, 1.0)
    return row


def _worked(row: Row, name: str) -> bool:
    """Whether a field of a data set holds a worked solution, not a final answer."""
    value = row.get(name)
    if not isinstance(value, str):
        return False
    if name == "answer":
        return "####" in value
    return bool(BOXED.search(value)) or "####" in value or "The answer is" in value


def _number_text(answer: object) -> str:
    if isinstance(answer, str):
        return answer
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise RowError(f"'answer' is {_kind_name(answer)}, not text or a number")
    return str(answer)
