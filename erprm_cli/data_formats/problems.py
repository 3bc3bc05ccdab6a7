"""Problems of other data sets: GSM8K, MATH, MATH-500, MetaMathQA."""

import re
from collections.abc import Sequence

from erprm_cli.answers.extraction import DEFAULT_RULES, WORKED_RULES, extract
from erprm_cli.data_formats.field_names import FieldNames, is_given
from erprm_cli.errors import RowError
from erprm_cli.hashing import content_hash
from erprm_cli.rows.row import Row
from erprm_cli.rows.schema import check_problem, check_solution, kind_name

CONCLUSION = re.compile(r"\\boxed\b|\\fbox\b|####|The answer is")


def as_problem(row: Row, names: FieldNames | None = None) -> Row:
    """Return `row` with `id`, `problem` and `answer`, whichever of the data sets above it comes from.

    A worked solution in `answer`, `solution` or `response` moves to `reference_solution`, because `answer` is
    the final answer only and `solution` is what a model writes. `answer` is null if unknown. `names` finds
    fields under other names. Raises RowError with all that is wrong.
    """
    names = names or FieldNames()
    row = names.renamed(row)
    if "sample" in row:  # written by `erprm sample`, so already in our format
        return check_solution(row)
    row = dict(row)
    read: list[tuple[str, str]] = []  # (field of the row, our name)
    worked = next((name for name in ("solution", "answer", "response") if is_worked(row, name)), None)
    if worked is not None:
        row["reference_solution"] = row.pop(worked)
        read.append((worked, "reference_solution"))
    answer = _answer(row, "answer", WORKED_RULES)
    if answer is None and worked is not None:
        answer = extract(row["reference_solution"], WORKED_RULES)
        read += [(worked, "answer")] * (answer is not None)
    if answer is None:
        read.append((names.find(row, "answer"), "answer"))
        answer = _answer(row, read[-1][0])
    read += [(names.find(row, "id"), "id"), (names.find(row, "problem", str), "problem")]
    problem = row.get(read[-1][0])
    row["id"] = identity(row, names, problem)
    row["problem"] = problem
    row["answer"] = answer
    check_problem(row)
    names.note_read(read)
    return row


def identity(row: Row, names: FieldNames, problem: object) -> object:
    """Return the id of a row: text, the digits of a number, or without one a hash of its problem.

    What is neither text nor a number is returned as it is, for the check of the row to refuse.

    >>> identity({"id": 7}, FieldNames(), "1 + 1?"), identity({}, FieldNames(), "1 + 1?")
    ('7', 'c97c3a9c9b990740')
    """
    value = row.get(names.find(row, "id"))
    if not is_given(value) and isinstance(problem, str):
        return content_hash(problem)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def final_answer(row: Row, name: str) -> str | None:
    """Return the answer in the field `name` of a row, or the final answer of a worked solution there.

    It is None if the field is missing, null or blank, or if the worked solution names no answer. Raises
    RowError if the field is neither text nor a number.

    >>> final_answer({"answer": "2 + 3 = 5\\n#### 5"}, "answer"), final_answer({"target": 5}, "target")
    ('5', '5')
    """
    answer = _answer(row, name)
    if isinstance(answer, str | None):
        return answer
    raise RowError(f"'{name}' is {kind_name(answer)}, not text or a number")


def is_worked(row: Row, name: str) -> bool:
    """Return whether a field of a problem is a worked solution, not a final answer."""
    value = row.get(name)
    if not isinstance(value, str):
        return False
    if name == "solution":
        return True  # even if it names no final answer, because the field is for what a model writes
    return "####" in value if name == "answer" else bool(CONCLUSION.search(value))


def _answer(row: Row, name: str, rules: Sequence[str] = DEFAULT_RULES) -> object:
    """Return an answer as text, None if it is missing or blank, and what cannot be an answer as it is."""
    value = row.get(name)
    if isinstance(value, str) and is_worked(row, name):
        return extract(value, rules)
    if not is_given(value):
        return None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
