"""How the stages that see all rows at once grow: CPU seconds and peak memory at 10^4, 10^5, 10^6 ... rows.

    python benchmarks/bench_scale.py                                    # 10^4 and 10^5 rows, two minutes
    python benchmarks/bench_scale.py --rows 100000 1000000              # a quarter of an hour, 3 GB of disk
    python benchmarks/bench_scale.py --rows 1000000 10000000 --only bon

Rows are solutions of 3 short steps, 16 of each problem, with 8 rewards per step (labels and scores included,
600 bytes each). Each stage runs in a process of its own:

join        cat SHARDS | erprm label: four files become one
sample      erprm sample again: nothing is missing in an output of all rows, which is searched for duplicates
rollout     erprm rollout again: the same, with its finished prefixes
bon         erprm bon: candidates grouped by problem, chosen by their scores
compare     erprm bon --compare: with the scores of a second PRM
votes       erprm bon without scores: chosen by majority
calibrate   erprm calibrate: scores against labels
store       what erprm train does before it loads a model: rows become examples, kept and cached
batches     the same again from the cache, and the batches of 100 optimizer steps of 256 examples

CPU seconds are user + system, without those of the same command on 160 rows. `growth` is the exponent of the
number of rows since the size before: 1.00 is ten times the time for ten times the rows. `MB/10^6` is the
memory that a million more rows take.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import orjson

SAMPLES, SHARDS, K = 16, 4, 8
SMALLEST = 160  # rows; the time of a command on them is that of its start
STEPS, BATCH = 100, 256
SCORED, LABELLED = ("scores", "prm"), ("labels", "eta", "estimator")
SHARD_FILES = [f"shard-{number}.jsonl" for number in range(SHARDS)]
WITHOUT: dict[str, tuple[str, ...]] = {  # by file of rows: the fields that its rows lack
    "all.jsonl": (),
    "other.jsonl": LABELLED,
    "solutions.jsonl": (*SCORED, *LABELLED, "rollouts"),
    "sampled.jsonl": (*SCORED, *LABELLED, "rollouts"),
    "rolled.jsonl": (*SCORED, *LABELLED),
    **dict.fromkeys(SHARD_FILES, (*SCORED, *LABELLED)),
}
SAMPLE = f"erprm sample -m tiny -q -n {SAMPLES} -o sampled.jsonl"
ROLLOUT = f"erprm rollout -m tiny -q -k {K} -o rolled.jsonl"
INNER = f"{sys.executable} {Path(__file__).resolve()} --inner"


class Used(NamedTuple):
    """What a command used."""

    cpu_s: float
    peak_mb: float


class Stage(NamedTuple):
    """A command for the shell, the files of rows that are there, and the command that ran before."""

    command: str
    files: tuple[str, ...]
    begin: str = ""


STAGES = {
    "join": Stage("cat shard-*.jsonl | erprm label -q --eta 2 -o labels.jsonl", tuple(SHARD_FILES)),
    "sample": Stage(f"{SAMPLE} problems.jsonl", ("sampled.jsonl",), f"{SAMPLE} /dev/null"),
    "rollout": Stage(
        f"{ROLLOUT} solutions.jsonl", ("solutions.jsonl", "rolled.jsonl"), f"{ROLLOUT} /dev/null"
    ),
    "bon": Stage("erprm bon -q all.jsonl -o chosen.jsonl", ("all.jsonl",)),
    "compare": Stage(
        "erprm bon -q all.jsonl --compare other.jsonl -o compared.jsonl", ("all.jsonl", "other.jsonl")
    ),
    "votes": Stage("erprm bon -q solutions.jsonl -o voted.jsonl", ("solutions.jsonl",)),
    "calibrate": Stage("erprm calibrate -q all.jsonl -o fit.jsonl", ("all.jsonl",)),
    "store": Stage(f"{INNER} store", ("all.jsonl",)),
    "batches": Stage(f"{INNER} batches", ("all.jsonl",), f"{INNER} store"),
}


def make_rows(count: int) -> Iterator[dict[str, Any]]:
    """Yield solutions with the fields of all stages, SAMPLES of each problem."""
    random = np.random.default_rng(0)
    for number in range(count):
        problem, sample = divmod(number, SAMPLES)
        draws = random.integers(1 << 20, size=8).tolist()
        answer, right = draws[4] % 5, float(draws[4] % 5 == problem % 5)
        steps = [f"{draws[0]} + {draws[1]} = {draws[0] + draws[1]}", f"{draws[2]} * {draws[3]} = {draws[2]}"]
        steps.append(f"The answer is {answer}")
        yield {
            "id": f"p{problem:08d}",
            "problem": f"Problem {problem}: how many are {problem % 97} apples and {problem % 89} more?",
            "answer": str(problem % 5),
            "sample": sample,
            "solution": "\n".join(steps),
            "steps": steps,
            "prediction": str(answer),
            "reward": right,
            "finish_reason": "stop",
            "num_tokens": 30,
            "sampling": {"model": "tiny", "temperature": 0.7, "seed": 0},
            "rollouts": [*([float(draw >> k & 1) for k in range(K)] for draw in draws[5:7]), [right]],
            "labels": [(draws[5] & 7) / 8, (draws[6] & 7) / 8, right],
            "eta": 2.0,
            "estimator": "er",
            "scores": [draw / (1 << 20) for draw in draws[5:]],
            "prm": "prm",
        }


def write_files(count: int, names: set[str]) -> None:
    """Append `count` rows to the files `names`; the shards share the rows. Write their problems too."""
    files = {name: open(name, "ab") for name in sorted(names)}
    with open("problems.jsonl", "wb") as problems:
        for number, row in enumerate(make_rows(count)):
            if not row["sample"]:
                problems.write(line(row, ("id", "problem", "answer")))
            for name, file in files.items():
                if name in SHARD_FILES and name != SHARD_FILES[number % SHARDS]:
                    continue
                if name == "other.jsonl":
                    row = row | {"scores": row["scores"][::-1], "prm": "other"}
                file.write(line(row, [field for field in row if field not in WITHOUT[name]]))
    for file in files.values():
        file.close()


def line(row: dict[str, Any], fields: Iterable[str]) -> bytes:
    return orjson.dumps({field: row[field] for field in fields}) + b"\n"


def run(command: str) -> Used:
    """Run a command of the shell to its end; return what it and its children used."""
    words = ["bash", "-euo", "pipefail", "-c", f"{command} > /dev/null"]
    pid = os.posix_spawnp(words[0], words, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    return Used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def measure(stage: Stage, count: int) -> Used:
    """Return what a stage uses for `count` rows, in a folder that is deleted afterwards."""
    before = Path.cwd()
    with TemporaryDirectory(dir=before) as folder:
        os.chdir(folder)
        os.environ["HF_DATASETS_CACHE"] = folder  # nothing is found from an earlier run
        try:
            if stage.begin.startswith("erprm"):
                run(stage.begin)
            write_files(count, set(stage.files))
            if stage.begin.startswith(INNER):
                run(stage.begin)
            return run(stage.command)
        finally:
            os.chdir(before)


def inner(stage: str) -> None:
    """Make the examples of all.jsonl, or find them in the cache; draw batches of them."""
    from erprm_cli.training.batches import BatchPlan, StepLoader
    from erprm_cli.training.config import PrmTrainingConfig
    from erprm_cli.training.prm_task import PrmTask

    task = PrmTask(PrmTrainingConfig(base="tiny", output=Path("prm")))
    task.read("all.jsonl")
    examples = task.store.examples()
    assert examples is not None
    if stage == "batches":
        plan = BatchPlan(budget=4096, packed=False)
        for _ in islice(StepLoader(examples, plan, BATCH, seed=0), STEPS):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inner:
        inner(asked.inner)
        return
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with TemporaryDirectory(dir=".") as folder:
        os.chdir(folder)
        print(f"{'stage':<10} {'rows':>11} {'CPU s':>8} {'growth':>7} {'peak MB':>8} {'MB/10^6':>8}")
        for name in asked.only:
            start = measure(STAGES[name], SMALLEST)
            count, last = 0, start
            for rows in sorted(asked.rows):
                used = measure(STAGES[name], rows)
                cpu_s, before_s = used.cpu_s - start.cpu_s, last.cpu_s - start.cpu_s
                growth = more = ""
                if count:
                    more = f"{(used.peak_mb - last.peak_mb) / (rows - count) * 1e6:,.0f}"
                if min(cpu_s, before_s) > 0:
                    growth = f"{log(cpu_s / before_s) / log(rows / count):.2f}"
                row = f"{name:<10} {rows:>11,} {cpu_s:>8.1f} {growth:>7} {used.peak_mb:>8,.0f} {more:>8}"
                print(row, flush=True)
                count, last = rows, used
        os.chdir("..")


if __name__ == "__main__":
    main()
