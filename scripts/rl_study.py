"""RAFT against GRPO on the shipped policy: greedy accuracy by generated tokens. The figures of docs/rl.md.

    python scripts/rl_study.py              # 3 seeds; writes rl_study.jsonl and docs/images/rl*.png
    python scripts/rl_study.py --short      # a part of it, in minutes; writes into its folder only

Every arm starts from the same policy, learns from equally many solutions of tiny:train and is evaluated
greedily on the same problems of tiny:test:

    raft-er                         RAFT with the ER PRM
    grpo-outcome                    GRPO with the outcome only
    grpo-ADVANTAGE-PRM              each process advantage with the ER, soft and hard PRM
    grpo-ADVANTAGE-PRM-alone        the ER PRM without the outcome (--outcome-weight 0)
    ...-pushed                      GRPO with the ER PRM at ten times the learning rate and for twice as many
                                    steps, to see where it breaks

What is finished in the folder is not repeated, so the script may be stopped and started again. It takes one
seed after the other, so that all arms have equally many.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from rl_curves import chart, pushed_table, table

from erprm_cli.data_formats.problems import as_problem
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import write_rows
from erprm_cli.reports.plots import save_plot, text_plot
from erprm_cli.rows.row import Row

ROOT = Path(__file__).parent.parent
ESTIMATORS = {"er": ("--eta", 2), "soft": ("--estimator", "soft"), "hard": ("--estimator", "hard")}
ADVANTAGES = ("increments", "process", "min-form")
N = 8  # solutions per problem
MAX_TOKENS = ("--max-tokens", 160)
LR = "1e-4"  # with 3e-4, all arms are near their end after four steps
PUSHED_LR = "1e-3"
# What the log of GRPO says of the solutions since the last evaluation, averaged.
FIGURES = "outcome prm_score kl completion_tokens num_steps truncated without_answer".split()


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run."""

    problems: int  # from which the PRMs learn
    rollouts: int  # per step
    estimators: tuple[str, ...]
    seeds: int
    steps: int  # of GRPO
    batch_size: int  # solutions per step
    evaluations: int  # after the first one; RAFT has as many rounds
    test_problems: int


FULL = Size(200, 16, ("er", "soft", "hard"), 3, 8, 64, 2, 128)
SHORT = Size(80, 8, ("er",), 1, 8, 64, 2, 128)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train."""

    algorithm: str
    advantage: str | None
    prm: str
    is_alone: bool = False  # the PRM, without the outcome
    is_pushed: bool = False

    @property
    def name(self) -> str:
        prm = None if self.advantage == "outcome" else self.prm  # which reads no scores
        suffixes = ["alone"] * self.is_alone + ["pushed"] * self.is_pushed
        return "-".join(filter(None, (self.algorithm, self.advantage, prm, *suffixes)))


def arms(size: Size) -> Iterator[Arm]:
    """Yield all arms, the baselines first."""
    yield Arm("raft", None, "er")
    yield Arm("grpo", "outcome", "er")
    for estimator in size.estimators:
        yield from (Arm("grpo", advantage, estimator) for advantage in ADVANTAGES)
    yield from (Arm("grpo", advantage, "er", is_alone=True) for advantage in ADVANTAGES)


def runs(size: Size) -> Iterator[tuple[Arm, int]]:
    """Yield each arm with each seed."""
    for seed in range(size.seeds):
        if size.seeds > 1:
            found = [arm for arm in arms(size) if arm.algorithm == "grpo" and arm.prm == "er"]
            yield from ((replace(arm, is_pushed=True), seed) for arm in found)
        yield from ((arm, seed) for arm in arms(size))


def main() -> None:
    """Run what is not finished, and print the table and the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="1 seed, the ER PRM only and fewer solutions")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--report", action="store_true", help="run nothing; compare what is finished")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/rl"), help="folder of the runs")
    arguments = parser.parse_args()
    size = SHORT if arguments.short else FULL
    arguments.output.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.output)
    if arguments.report:
        wanted = [run for run in runs(size) if log_file(*run).exists()]
    else:
        wanted = list(runs(size))
        train_prms(size)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        finished = pool.map(lambda run: list(evaluations(run[0], run[1], size)), wanted)
        rows = [row for found in finished for row in found]
    results = Path("results.jsonl") if arguments.short else ROOT / "scripts/rl_study.jsonl"
    write_rows(results, rows, overwrite=True)
    images = Path() if arguments.short else ROOT / "docs/images"
    gentle = chart(rows, is_pushed=False)
    save_plot(gentle, str(images / "rl.png"))
    print(*table(rows), "", text_plot(gentle), sep="\n")
    if not arguments.short:
        save_plot(chart(rows, is_pushed=True), str(images / "rl-pushed.png"))
        print("", *pushed_table(rows), sep="\n")


def erprm(*words: object, stdout: str | None = None) -> None:
    """Run one command of erprm; its rows go to a file if one is named."""
    print("$ erprm", *words, file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "erprm_cli", *map(str, words)], stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(done.returncode)
    if stdout is not None:
        Path(stdout).write_bytes(done.stdout)


def train_prms(size: Size) -> None:
    """Train a PRM for each estimator from the same rollouts; take the problems of the evaluations."""
    if not Path("test.jsonl").exists():
        write_rows(Path("test.jsonl"), read_rows("tiny:test", as_problem, limit=size.test_problems))
    if all(Path(f"prm-{name}").exists() for name in size.estimators):
        return
    erprm("sample", "tiny:train", "-L", size.problems, "-n", N, *MAX_TOKENS, "-o", "solutions.jsonl")
    erprm("rollout", "solutions.jsonl", "-k", size.rollouts, *MAX_TOKENS, "-o", "rollouts.jsonl")
    for name in size.estimators:
        erprm("label", "rollouts.jsonl", *ESTIMATORS[name], "-o", f"{name}.labels.jsonl")
        erprm("train", f"{name}.labels.jsonl", "--epochs", 3, "--lr", "1e-3", "-o", f"prm-{name}")


def log_file(arm: Arm, seed: int) -> Path:
    """Return the file of the rows that a run printed; it is there when the run is finished."""
    return Path(f"{arm.name}-{seed}.log.jsonl")


def evaluations(arm: Arm, seed: int, size: Size) -> Iterator[Row]:
    """Train one arm unless that is done; yield a row for each evaluation."""
    folder, log = Path(f"{arm.name}-{seed}"), log_file(arm, seed)
    if not log.exists():
        erprm(*command(arm, seed, size), "-o", folder, stdout=str(log))
    tokens, since = 0, list[Row]()  # rows since the last evaluation
    for row in read_rows(str(log), dict):
        since.append(row)
        if row["accuracy"] is None or arm.algorithm == "grpo" and row["policy"] is not None:
            continue  # the last row of GRPO repeats the evaluation before it
        figures: Row = {}
        if arm.algorithm == "raft":
            part = folder / f"iteration-{row['iteration']}"
            if row["iteration"]:
                tokens += sum(sample["num_tokens"] for sample in read_rows(str(part / "samples.jsonl"), dict))
        else:
            part, tokens = folder / f"step-{row['step']}", row["generated_tokens"]
            if row["step"]:
                figures = {
                    "step": row["step"],
                    **{name: mean(row[name] for row in since) for name in FIGURES},
                }
            since = []
        solved = {row["id"]: row["reward"] for row in read_rows(str(part / "eval.jsonl"), dict)}
        bits = "".join(str(int(solved[problem["id"]])) for problem in read_rows("test.jsonl", dict))
        yield {"arm": arm.name, "seed": seed, "tokens": tokens, **figures, "solved": bits}


def mean(values: Iterable[float]) -> float:
    """Return the mean, rounded for a row."""
    return round(fmean(values), 5)


def command(arm: Arm, seed: int, size: Size) -> list[object]:
    """Return the command line of one arm, without its folder."""
    words = ["rlhf", "tiny:train", "--prm", f"prm-{arm.prm}", "--eval", "test.jsonl", "--seed", seed]
    words += ["-n", N, *MAX_TOKENS, "--lr", PUSHED_LR if arm.is_pushed else LR]
    if arm.algorithm == "raft":
        problems = size.steps * size.batch_size // N // size.evaluations
        return [*words, "--iterations", size.evaluations, "--slice-size", problems, "--batch-size", 16]
    words += ["--algorithm", "grpo", "--advantage", arm.advantage, "--batch-size", size.batch_size]
    steps = 2 * size.steps if arm.is_pushed else size.steps
    words += ["--max-steps", steps, "--eval-steps", size.steps // size.evaluations, "--log-every", 1]
    return [*words, "--outcome-weight", 0] if arm.is_alone else words


if __name__ == "__main__":
    main()
