"""Rows for the torture: problems, solutions, rollouts and scores, as many as wanted, made from a seed."""

import random
from pathlib import Path
from typing import Any

from erprm_cli.hashing import content_hash
from erprm_cli.rows.row import to_line

Row = dict[str, Any]


def problem(number: int) -> Row:
    text = f"Problem {number}: what is {number % 3}?"
    return {"id": content_hash(text), "problem": text, "answer": str(number % 3), "note": {"kept": [number]}}


def solution(number: int, sample: int = 0) -> Row:
    draw = random.Random(number * 64 + sample)
    steps = [f"Step {step}: {draw.random()}" for step in range(draw.randint(1, 5))]
    answer = str(draw.randrange(3))
    steps.append(f"The answer is: {answer}")
    row = problem(number)
    return row | {
        "sample": sample,
        "solution": "\n".join(steps),
        "steps": steps,
        "prediction": answer,
        "reward": float(answer == row["answer"]),
        "finish_reason": "stop",
        "num_tokens": 10,
    }


def rollouts(number: int, k: int = 16) -> Row:
    row, draw = solution(number), random.Random(number)
    lists = [[float(draw.randrange(2)) for _ in range(k)] for _ in row["steps"][1:]]
    return row | {"rollouts": [*lists, [row["reward"]]]}


def scores(number: int, sample: int = 0) -> Row:
    row, draw = solution(number, sample), random.Random(f"{number} {sample}")
    return row | {"scores": [draw.random() for _ in row["steps"]], "prm": "torture"}


def write(path: Path, rows: list[Row]) -> Path:
    path.write_bytes(b"".join(map(to_line, rows)))
    return path
