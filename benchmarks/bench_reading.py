"""Reading labelled solutions for a training: rows/s and memory of `erprm train`, against lists of token ids.

    python benchmarks/bench_reading.py --rows 250000     # a file of 540 MB, some minutes

erprm   what `erprm train` does before it loads a model: check each row, tokenise it, find its tags, write an
        Arrow file, map that into memory
again   the same command again, which finds the examples in the cache
lists   rows loaded into a list, tokenised a thousand at a time, their ids kept in lists; nothing is checked

Each runs in its own process, one after the other, with the tokenizer of `tiny` on the same file; their
numbers of tokens are printed. Solutions have 1 to 20 steps of about 35 tokens, 290 tokens on average. Added
memory is the peak beyond that of the libraries and the tokenizer, pages of mapped files included.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

WORDS = (
    "the of sum is so we have that equals number x y 3 4 12 7 * + = where each get then total $x^2$ answer"
)
STEPS = 2_000  # different ones


def make_rows(path: Path, count: int) -> None:
    """Write labelled solutions, four of each problem."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS.split(), 28)) for _ in range(STEPS)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            problem, sample = divmod(number, 4)
            drawn = random.integers(STEPS, size=int(np.clip(random.lognormal(np.log(6), 0.5), 1, 20)))
            steps = [f"Step {at}: {texts[index]} = {index}" for at, index in enumerate(drawn, start=1)]
            row = {
                "id": f"p{problem}",
                "problem": f"Problem {problem}: {texts[problem % STEPS]}?",
                "answer": "1",
                "sample": sample,
                "solution": "\n".join(steps),
                "steps": steps,
                "labels": random.random(len(steps)).round(4).tolist(),
                "eta": 2.0,
                "estimator": "er",
            }
            file.write(json.dumps(row) + "\n")


def read_erprm(path: Path) -> Callable[[], int]:
    from erprm_cli.training.config import PrmTrainingConfig
    from erprm_cli.training.prm_task import PrmTask

    task = PrmTask(PrmTrainingConfig(base="tiny", output=path.parent / "prm"))

    def read() -> int:
        task.read(str(path))
        assert task.store.examples() is not None
        return int(task.stats["tokens"])

    return read


def read_lists(path: Path) -> Callable[[], int]:
    from erprm_cli.models.loading import load_tokenizer
    from erprm_cli.prm.formats import ER_PRM, load_prm_format

    prm_format, tokenizer = load_prm_format(ER_PRM), load_tokenizer("tiny")
    tokenizer("")  # torch and what else it loads at first

    def read() -> int:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        ids = []
        for begin in range(0, len(rows), 1000):
            texts = [prm_format.render(row["problem"], row["steps"])[0] for row in rows[begin : begin + 1000]]
            ids += tokenizer(texts, verbose=False).input_ids
        return sum(len(one) for one in ids if len(one) <= 512)

    return read


def peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def measure(side: str, path: Path) -> tuple[int, float, float, float]:
    """Return tokens, seconds, CPU seconds and added memory in MB of one way to read."""
    read = (read_lists if side == "lists" else read_erprm)(path)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, begin, cpu = peak_mb(), time.perf_counter(), time.process_time()
    tokens = read()
    return tokens, time.perf_counter() - begin, time.process_time() - cpu, peak_mb() - before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    rows = parser.parse_args().rows
    with TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = folder  # nothing is found from an earlier run, and nothing left
        path = Path(folder) / "labels.jsonl"
        make_rows(path, rows)
        print(f"{rows:,} solutions, {path.stat().st_size / 1e6:,.0f} MB")
        print(f"{'':8} {'rows/s':>8} {'CPU s':>8} {'added MB':>9} {'tokens':>12}")
        context = multiprocessing.get_context("spawn")
        for side in ("erprm", "again", "lists"):
            with ProcessPoolExecutor(1, context) as pool:
                tokens, seconds, cpu, added = pool.submit(measure, side, path).result()
            print(f"{side:8} {rows / seconds:8,.0f} {cpu:8.1f} {added:9,.0f} {tokens:12,}", flush=True)


if __name__ == "__main__":
    main()
