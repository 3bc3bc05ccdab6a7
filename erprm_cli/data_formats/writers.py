"""Writers of the formats of other projects: a labelled solution in, a row of the format out.

`labels` are 0 and 1 if the format stores no others.
"""

from collections.abc import Callable

from erprm_cli.data_formats.tagged_text import TAG, problem_end, tagged
from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import stepped_text

Writer = Callable[[Row, list[float]], Row]


def er_prm(row: Row, labels: list[float]) -> Row:
    return {"text": _text(row), "value": list(map(float, labels))}


def math_shepherd(row: Row, labels: list[float]) -> Row:
    parts = (text := _text(row)).split(TAG)
    signs = [*map(_sign, labels), ""]
    marked = "".join(part + sign for part, sign in zip(parts, signs, strict=True))
    return {"input": text, "label": marked, "task": row.get("task")}


def trl(row: Row, labels: list[float]) -> Row:
    return {"prompt": row["problem"], "completions": row["steps"], "labels": [label == 1 for label in labels]}


def rlhflow(row: Row, labels: list[float]) -> Row:
    first, *others = row["steps"]
    turns: list[Row] = []
    for text, label in zip([f"{row['problem']} {first}", *others], labels, strict=True):
        turns += [{"role": "user", "content": text}, {"role": "assistant", "content": _sign(label)}]
    return {"conversations": turns}


def marks_problem_end(row: Row) -> bool:
    """Return whether the end of the problem can be found again when problem and step 1 are one text."""
    try:
        return problem_end(f"{row['problem']} {row['steps'][0]}") == len(row["problem"])
    except RowError:
        return False


def _text(row: Row) -> str:
    return tagged(row["problem"], stepped_text(row), row["steps"])


def _sign(label: float) -> str:
    return "+" if label == 1 else "-"
