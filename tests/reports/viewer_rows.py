"""Rows to look at, and their page."""

import json
from pathlib import Path
from typing import Any

from erprm_cli.reports.solutions_page import ComparedScores, SolutionsPage

Row = dict[str, Any]


def solution(number: int, labels: list[float], scores: list[float], correct: bool) -> Row:
    steps = [f"Step {place}: add {number}." for place in range(1, len(labels) + 1)]
    return {
        "id": f"p{number}",
        "problem": f"How many, {number}?",
        "answer": "7",
        "sample": 0,
        "solution": "\n".join(steps),
        "steps": steps,
        "prediction": "7" if correct else "8",
        "reward": float(correct),
        "labels": labels,
        "scores": scores,
        "prm": "runs/first",
    }


ROWS = [
    solution(0, [1.0, 1.0], [0.9, 0.8], True),
    solution(1, [0.5, 0.0, 0.0], [0.6, 0.1, 0.0], False),  # the first error is found
    solution(2, [0.7, 0.0], [0.9, 0.9], False),  # it is missed
    solution(3, [0.9, 1.0, 1.0, 1.0], [0.8, 0.4, 0.9, 0.7], True),  # a false alarm
]
OTHER = [row | {"scores": row["scores"][::-1], "prm": "runs/second"} for row in ROWS[:3]]


def write_rows(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def page_of(rows: list[Row], source: str = "rows.jsonl", other: ComparedScores | None = None) -> str:
    page = SolutionsPage(source, other)
    return b"".join(page.parts(map(page.check, rows))).decode()
