"""RAFT against GRPO on the shipped policy: greedy accuracy by generated tokens, for each advantage and PRM.

    python scripts/rl_study.py [--short] [-o runs/rl]

Every arm generates equally many solutions of tiny:train, and is evaluated greedily on tiny:test:

    raft-er                               RAFT with the ER PRM
    grpo-outcome                          GRPO with the outcome only
    grpo-ADVANTAGE-PRM                    each process advantage with the ER, soft and hard PRM
    grpo-ADVANTAGE-er-alone               the same without the outcome (--outcome-weight 0)

The whole has 3 seeds; --short has 1 seed, the ER PRM alone and fewer solutions. Everything is kept in the
folder, and every command continues from its output, so the script may be stopped and started again. It
prints a table and writes table.md, curves.jsonl and curves.png.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from erprm_cli.data_formats.problems import as_problem
from erprm_cli.evaluation.intervals import Estimate, mean_over_problems
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import write_rows
from erprm_cli.reports.charts import Chart, Curve
from erprm_cli.reports.plots import save_plot, text_plot
from erprm_cli.rows.row import Row

ESTIMATORS = ("er", "soft", "hard")
ADVANTAGES = ("increments", "process", "min-form")
MAX_TOKENS = "160"


@dataclass(frozen=True)
class Size:
    problems: int  # of which the PRMs learn
    rollouts: int  # per step
    estimators: tuple[str, ...]
    seeds: int
    steps: int  # of GRPO
    batch_size: int  # solutions per step; 8 of each problem
    eval_steps: int
    test_problems: int


FULL = Size(300, 16, ESTIMATORS, 3, 60, 64, 10, 500)
SHORT = Size(80, 8, ("er",), 1, 8, 64, 4, 200)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--arms", nargs="*", help="only these")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/rl"))
    arguments = parser.parse_args()
    size = SHORT if arguments.short else FULL
    arguments.output.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.output)
    train_prms(size)
    curves: list[Row] = []
    for arm in arguments.arms or arms(size):
        for seed in range(size.seeds):
            curves += points(arm, seed, size)
            Path("curves.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in curves))
    table = "\n".join(table_of(curves, size))
    Path("table.md").write_text(table + "\n")
    chart = chart_of(curves, size)
    save_plot(chart, "curves.png")
    print(table, text_plot(chart), sep="\n\n")


def arms(size: Size) -> Iterator[str]:
    """Yield the names of all arms."""
    yield from ("raft-er", "grpo-outcome-er")
    for advantage in ADVANTAGES:
        yield from (f"grpo-{advantage}-{estimator}" for estimator in size.estimators)
        yield f"grpo-{advantage}-er-alone"


def erprm(*words: object, stdout: Path | None = None) -> None:
    """Run one command of erprm; its rows go to a file if one is named."""
    print("$ erprm", *words, file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "erprm_cli", *map(str, words)], stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(done.returncode)
    if stdout is not None:
        stdout.write_bytes(done.stdout)


def train_prms(size: Size) -> None:
    """Train a PRM for each estimator from the same rollouts."""
    sampled = ["--max-tokens", MAX_TOKENS]
    erprm("sample", "tiny:train", "-L", size.problems, "-n", 8, *sampled, "-o", "solutions.jsonl")
    erprm("rollout", "solutions.jsonl", "-k", size.rollouts, *sampled, "-o", "rollouts.jsonl")
    for name in size.estimators:
        how = ["--eta", 2] if name == "er" else ["--estimator", name]
        erprm("label", "rollouts.jsonl", *how, "-o", f"{name}.labels.jsonl")
        erprm("train", f"{name}.labels.jsonl", "--epochs", 3, "--lr", "1e-3", "-o", f"prm-{name}")


def points(arm: str, seed: int, size: Size) -> Iterator[Row]:
    """Train one arm; yield its accuracy after so many generated tokens."""
    algorithm, *rest = arm.split("-")
    folder, log = f"{arm}-{seed}", Path(f"{arm}-{seed}.log.jsonl")
    test = Path("test.jsonl")
    if not test.exists():
        write_rows(test, read_rows("tiny:test", as_problem, limit=size.test_problems))
    common = ["--seed", seed, "-n", 8, "--lr", "3e-4", "--max-tokens", MAX_TOKENS]
    common += ["--eval", test, "-o", folder]
    solutions = size.steps * size.batch_size
    if algorithm == "raft":
        rounds = 3 if size.seeds > 1 else 1
        more = ["--iterations", rounds, "--slice-size", solutions // 8 // rounds, "--batch-size", 32]
        erprm("rlhf", "tiny:train", "--prm", f"prm-{rest[0]}", *common, *more, stdout=log)
        tokens = 0
        for row in rows_of(log):
            sampled = Path(folder, f"iteration-{row['iteration']}", "samples.jsonl")
            tokens += sum(row["num_tokens"] for row in rows_of(sampled)) if sampled.exists() else 0
            yield {"arm": arm, "seed": seed, "tokens": tokens, "accuracy": row["accuracy"]}
        return
    alone = ["--outcome-weight", 0] if rest[-1] == "alone" else []
    estimator = rest[-2] if alone else rest[-1]
    advantage = "-".join(rest[: rest.index(estimator)])
    more = ["--algorithm", "grpo", "--advantage", advantage, *alone, "--batch-size", size.batch_size]
    more += ["--max-steps", size.steps, "--eval-steps", size.eval_steps, "--log-every", 1, "--save-steps", 10]
    erprm("rlhf", "tiny:train", "--prm", f"prm-{estimator}", *common, *more, stdout=log)
    for row in rows_of(log):
        if row["accuracy"] is not None and row["policy"] is None:
            tokens = row["generated_tokens"]
            score, outcome = row["prm_score"], row["outcome"]
            point = {"arm": arm, "seed": seed, "tokens": tokens, "accuracy": row["accuracy"]}
            yield point | {"prm_score": score, "outcome": outcome}


def rows_of(path: Path) -> list[Row]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def by_arm(curves: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in curves:
        found.setdefault(row["arm"], []).append(row)
    return found


def interval(accuracy: float, size: Size) -> Estimate:
    """Return the 95 % interval of an accuracy over the test problems."""
    correct = round(accuracy * size.test_problems)
    return mean_over_problems([1] * correct + [0] * (size.test_problems - correct))


def table_of(curves: list[Row], size: Size) -> Iterator[str]:
    """Yield the lines of a table: tokens and accuracy at the end of each arm, the mean over seeds."""
    yield "| arm | tokens | greedy accuracy, % | 95 % interval | seeds |"
    yield "|---|---|---|---|---|"
    start = [row["accuracy"] for row in curves if row["tokens"] == 0][0]
    for arm, rows in {"before": [{"seed": 0, "tokens": 0, "accuracy": start}], **by_arm(curves)}.items():
        last = {row["seed"]: row for row in rows}.values()
        mean = sum(row["accuracy"] for row in last) / len(last)
        found, tokens = interval(mean, size), sum(row["tokens"] for row in last) / len(last)
        each = ", ".join(f"{100 * row['accuracy']:.1f}" for row in last)
        between = f"{100 * found.low:.1f} to {100 * found.high:.1f}"
        yield f"| {arm} | {tokens:,.0f} | {100 * mean:.1f} | {between} | {each} |"


def chart_of(curves: list[Row], size: Size) -> Chart:
    """Return accuracy against tokens, the mean over seeds."""
    drawn = []
    for arm, rows in by_arm(curves).items():
        steps: dict[int, list[Row]] = {}
        for seed in range(size.seeds):
            for number, row in enumerate(row for row in rows if row["seed"] == seed):
                steps.setdefault(number, []).append(row)
        means = [
            (
                sum(row["tokens"] for row in same) / len(same),
                100 * sum(row["accuracy"] for row in same) / len(same),
            )
            for same in steps.values()
        ]
        drawn.append(Curve(arm, means, means, dashed=arm.endswith("alone")))
    return Chart("generated tokens", "greedy accuracy, %", "tok", "%", drawn)


if __name__ == "__main__":
    main()
