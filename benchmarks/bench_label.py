"""`erprm label` against jsonlines with the standard library's json, whole processes, on compact rows.

Both read a file, label it and write a file; their outputs are checked equal first. They then run alternately
and the best of each counts, in CPU seconds (user + system), so that other work on the machine matters little.
The goal is at least 3 times as fast.

    python benchmarks/bench_label.py                  # 60,000 rows, under a minute
    python benchmarks/bench_label.py --rows 230000    # about 200 MB
    python benchmarks/bench_label.py --full           # with problem and solution in the rows
"""

import argparse
import json
import os
import random
import sys
import tempfile
from math import expm1, log1p
from pathlib import Path
from typing import Any, NamedTuple

ETA = 2.0
K = 16
WORDS = "the of apples has each she buys price total number then we add subtract multiply gives left sold day"


def make_rows(path: Path, rows: int, seed: int, full: bool) -> None:
    """Write solutions of 6 to 10 steps with K rewards each; `full` adds the other fields of such a row.

    The rate of success wanders from step to step, so the rewards repeat no more than real ones.
    """
    draw = random.Random(seed)
    words = WORDS.split()
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            steps = [
                f"{' '.join(draw.choices(words, k=4))} 39 * {draw.randint(1, 99)} = 3{step}"
                for step in range(draw.randint(6, 10))
            ]
            rate, rewards = draw.random(), []
            for _ in steps[1:]:
                rate = min(1.0, max(0.0, rate + draw.gauss(0, 0.2)))
                rewards.append([float(draw.random() < rate) for _ in range(K)])
            outcome = float(draw.random() < rate)
            row: dict[str, Any] = {"id": f"p{number // 8:06d}", "sample": number % 8, "steps": steps}
            if full:
                row |= {
                    "problem": " ".join(draw.choices(words, k=40)),
                    "answer": str(draw.randint(1, 999)),
                    "solution": "\n".join(steps),
                    "prediction": str(draw.randint(1, 999)),
                    "finish_reason": "stop",
                    "num_tokens": 20 * len(steps),
                }
            row |= {"reward": outcome, "rollouts": [*rewards, [outcome]]}
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


def label_plainly(source: str, target: str) -> None:
    """Label as one does with jsonlines: rows in and out through json, one table of f_eta(k/K)."""
    import jsonlines

    labels: dict[tuple[float, int], float] = {}

    def label(rewards: list[float]) -> float:
        key = (sum(rewards), len(rewards))
        if key not in labels:
            labels[key] = log1p(key[0] / key[1] * expm1(ETA)) / ETA
        return labels[key]

    with jsonlines.open(source) as rows, jsonlines.open(target, "w", compact=True) as out:
        for row in rows:
            row["labels"] = [label(rewards) for rewards in row["rollouts"]]
            row["eta"] = ETA
            row["estimator"] = "er"
            out.write(row)


class Run(NamedTuple):
    """CPU seconds and peak memory of one process."""

    cpu_s: float
    peak_mb: float


def run(command: list[str]) -> Run:
    """Run a command to its end and measure it."""
    pid = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def same_rows(one: Path, other: Path) -> bool:
    """Whether two files hold equal rows, with labels equal to the last digits."""
    with one.open("rb") as a, other.open("rb") as b:
        return all(_same(json.loads(x), json.loads(y)) for x, y in zip(a, b, strict=True))


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    labels = zip(one.pop("labels"), other.pop("labels"), strict=True)
    return one == other and all(abs(a - b) < 1e-15 for a, b in labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=3, help="of each; the best counts")
    parser.add_argument("--full", action="store_true", help="rows with all fields of a rollouts row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plainly", nargs=2, metavar=("IN", "OUT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.plainly:
        label_plainly(*asked.plainly)
        return
    with tempfile.TemporaryDirectory() as folder:
        source, plain, ours = (Path(folder) / name for name in ("rows.jsonl", "plain.jsonl", "ours.jsonl"))
        make_rows(source, asked.rows, asked.seed, asked.full)
        commands = {
            "jsonlines + json": [sys.executable, __file__, "--plainly", str(source), str(plain)],
            "erprm label": [sys.executable, "-m", "erprm_cli", "label", str(source), "-o", str(ours)]
            + ["--eta", str(ETA), "-q"],
        }
        runs: dict[str, list[Run]] = {name: [run(command)] for name, command in commands.items()}
        if not same_rows(plain, ours):
            raise SystemExit("the two outputs differ")
        for _ in range(asked.runs - 1):
            for name, command in commands.items():
                runs[name].append(run(command))
        print(f"{asked.rows:,} rows, {source.stat().st_size / 1e6:.0f} MB, best of {asked.runs}, CPU seconds")
        for name, done in runs.items():
            cpu_s, peak_mb = min(r.cpu_s for r in done), max(r.peak_mb for r in done)
            print(f"{name:<18}{cpu_s:6.2f} s {asked.rows / cpu_s:9,.0f} rows/s   peak {peak_mb:.0f} MB")
        ratio = min(r.cpu_s for r in runs["jsonlines + json"]) / min(r.cpu_s for r in runs["erprm label"])
        print(f"ratio {ratio:.2f}, outputs equal")


if __name__ == "__main__":
    main()
