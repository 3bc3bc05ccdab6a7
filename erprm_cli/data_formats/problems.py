"""Problems of other data sets: GSM8K, MATH, MATH-500, MetaMathQA."""

import re

from erprm_cli.answers.extraction import WORKED_RULES, extract
from erprm_cli.errors import RowError
from erprm_cli.hashing import content_hash
from erprm_cli.rows.row import Row
from erprm_cli.rows.schema import check_solution, kind_name

PROBLEM_NAMES = ("problem", "question", "query", "prompt")  # erprm and MATH, GSM8K, MetaMathQA, others
ID_NAMES = ("id", "unique_id")
CONCLUSION = re.compile(r"\\boxed\b|\\fbox\b|####|The answer is")


def as_problem(row: Row) -> Row:
    """Return `row` with `id`, `problem` and `answer`, whichever of the data sets above it comes from.

    A worked solution in `answer`, `solution` or `response` moves to `reference_solution`, because `answer` is
    the final answer only and `solution` is what a model writes. `answer` is null if unknown. Raises RowError
    if there is no problem.
    """
    text = next((row[name] for name in PROBLEM_NAMES if isinstance(row.get(name), str)), None)
    if not text:
        raise RowError(f"no problem text; it may be called {', '.join(PROBLEM_NAMES)}")
    if "sample" in row:  # written by `erprm sample`, so already in our format
        return check_solution(row)
    row = dict(row)
    worked = next((name for name in ("solution", "answer", "response") if _is_worked(row, name)), None)
    if worked is not None:
        row["reference_solution"] = row.pop(worked)
    answer = row.get("answer")
    if answer is None and worked is not None:
        answer = extract(row["reference_solution"], WORKED_RULES)
    elif _is_worked(row, "answer"):
        answer = extract(row["answer"], WORKED_RULES)
    row["id"] = str(next((row[name] for name in ID_NAMES if row.get(name) is not None), content_hash(text)))
    row["problem"] = text
    row["answer"] = None if answer is None else _answer_text(answer)
    return row


def final_answer(row: Row, name: str) -> str | None:
    """Return the answer in the field `name` of a row, or the final answer of a worked solution there.

    It is None if the field is missing or null, or if the worked solution names no answer. Raises
    RowError if the field is neither text nor a number.

    >>> final_answer({"answer": "2 + 3 = 5\\n#### 5"}, "answer"), final_answer({"target": 5}, "target")
    ('5', '5')
    """
    value = extract(row[name]) if _is_worked(row, name) else row.get(name)
    return None if value is None else _answer_text(value, name)


def _is_worked(row: Row, name: str) -> bool:
    """Return whether a field of a problem is a worked solution, not a final answer."""
    value = row.get(name)
    if not isinstance(value, str):
        return False
    if name == "solution":
        return True  # even if it names no final answer, because the field is for what a model writes
    return "####" in value if name == "answer" else bool(CONCLUSION.search(value))


def _answer_text(answer: object, name: str = "answer") -> str:
    if isinstance(answer, str):
        return answer
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise RowError(f"'{name}' is {kind_name(answer)}, not text or a number")
    return str(answer)
