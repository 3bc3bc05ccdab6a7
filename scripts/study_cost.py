"""What the study at the paper's scale costs, computed with --dry-run: the table of docs/study.md.

    PYTHONPATH=. python scripts/study_cost.py

The commands are those of templates/pipelines/study.sh with the variables of study_gsm8k.sh, one of a kind,
each multiplied by how often the script runs it. Models have the published sizes and tokenizers, no weights,
and texts are invented, as for the recipes (recipe_figures.py).
"""

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from recipe_figures import (
    GENERATED_PER_S,
    PROBLEMS,
    ROOT,
    SCORED_PER_S,
    TOKENIZERS,
    TRAINED_PER_S,
    Recipe,
    problem,
    run,
    solution,
    write_model,
    write_rows,
    write_trained,
)

from erprm_cli.rows.row import Row

STUDY = ROOT / "templates" / "pipelines"
POLICY, BASE = "meta-math/MetaMath-Mistral-7B", "meta-llama/Llama-3.1-8B"
TEXTS = Recipe(files={})  # GSM8K is assumed to be like the problems of the paper's recipe
TRAINING_PROBLEMS = 7_473


class Part(NamedTuple):
    """A command: how often the study runs it, and how many times the rows here it then reads."""

    does: str
    words: list[str]
    times: int
    scale: float


def design() -> dict[str, str]:
    """Return the variables of study_gsm8k.sh and, for the others, of study.sh."""
    script = 'set -a; exec() { . <(grep "^: " "$2"); env -0; }; . "$0"'
    done = subprocess.run(["bash", "-c", script, STUDY / "study_gsm8k.sh"], capture_output=True, check=True)
    return dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0") if "=" in pair)


def parts(of: dict[str, str], problems: int) -> Iterator[Part]:
    """Yield the commands; files of solutions have `problems` problems."""
    number = {name: int(of[name]) for name in ("PROBLEMS", "SOLUTIONS", "CANDIDATES", "STEPS", "BATCH")}
    sizes, ks = [int(size) for size in of["SIZES"].split()], of["KS"].split()
    labels, seeds = of["LABELS"].split(), len(of["SEEDS"].split())
    models = seeds * len(sizes) * sum(1 if label == "orm" else len(ks) for label in labels)
    policy, tested = shlex.split(of["SAMPLING"]), number["PROBLEMS"] / problems
    trained = sizes[-1] / problems
    yield Part("candidates", ["sample", "problems.jsonl", *policy, "-n", of["CANDIDATES"]], 1, tested)
    yield Part("reference", ["rollout", "one.jsonl", *policy, "-k", of["REFERENCE"]], 1, tested)
    yield Part("solutions", ["sample", "problems.jsonl", *policy, "-n", of["SOLUTIONS"]], seeds, trained)
    yield Part("rollouts", ["rollout", "solutions.jsonl", *policy, "-k", ks[-1]], seeds, trained)
    epochs = number["STEPS"] * number["BATCH"] / (problems * number["SOLUTIONS"])
    train = ["--lr", of["LR"], "--batch-size", of["BATCH"], "--epochs", str(epochs), "-o", "new"]
    yield Part("reward models", ["train", "solutions.jsonl", *shlex.split(of["TRAINING"]), *train], models, 1)
    yield Part("scores", ["score", "candidates.jsonl", "--prm", "prm"], models, tested)
    raft = [*policy, *shlex.split(of["RAFT_FLAGS"]), "--prm", "prm", "-o", "raft", "--eval", "problems.jsonl"]
    yield Part("RAFT", ["rlhf", "problems.jsonl", *raft], seeds * len(labels), TRAINING_PROBLEMS / problems)


def line(part: Part, folder: Path) -> tuple[str, float, float]:
    """Return a line of the table, and the GPU hours at most and expected."""
    words, total = part.words, part.times * part.scale
    rate = {"score": SCORED_PER_S, "train": TRAINED_PER_S}.get(words[0], GENERATED_PER_S)
    plan = dry_run(words, rate, folder)
    at_most: float = plan["max_hours" if "max_hours" in plan else "hours"] * total
    expected, generated = at_most, plan.get("max_generated_tokens")
    if generated is not None:
        length = len(TOKENIZERS[POLICY]()(solution(TEXTS, 0, 0)["solution"]).input_ids)
        # The mean of what is missing after the steps before the last is half of a solution.
        length //= 2 if words[0] == "rollout" else 1
        expected = dry_run([*words, "--max-tokens", str(length)], rate, folder)["max_hours"] * total
    count = "completions" if "completions" in plan else "solutions"
    epochs = float(words[words.index("--epochs") + 1]) if words[0] == "train" else 1.0
    read = plan.get("tokens", plan.get("prompt_tokens"))
    cells = [
        f"{part.does} (`{words[0]}`)",
        f"{part.times:,}",
        f"{round(plan[count] * total * epochs):,} {count}",
        *("–" if tokens is None else f"{tokens * total / 1e6:,.0f} M" for tokens in (read, generated)),
        f"{at_most:,.0f}",
        f"{expected:,.0f}",
    ]
    return f"| {' | '.join(cells)} |", at_most, expected


def dry_run(words: list[str], rate: float, folder: Path) -> Row:
    found: Row = json.loads(run([*words, "--dry-run", "-q", "--tokens-per-s", str(rate)], folder))
    return found


def table(problems: int = PROBLEMS, tiny: bool = False) -> str:
    """Return the table as Markdown."""
    of = design()
    with TemporaryDirectory(prefix="study-") as name:
        folder = Path(name)
        for model in (POLICY, BASE):
            write_model(folder / model, model, tiny)
        write_trained(folder / "prm", BASE, "er-prm", tiny)
        write_rows(folder / "problems.jsonl", [problem(TEXTS, index) for index in range(problems)])
        for file, count in (
            ("one", 1),
            ("solutions", int(of["SOLUTIONS"])),
            ("candidates", int(of["CANDIDATES"])),
        ):
            rows = [solution(TEXTS, index, sample) for index in range(problems) for sample in range(count)]
            write_rows(folder / f"{file}.jsonl", rows)
        lines = [line(part, folder) for part in parts(of, problems)]
    at_most, expected = sum(one[1] for one in lines), sum(one[2] for one in lines)
    return "\n".join(
        [
            "| part | runs | does | reads | generates at most | GPU hours at most | GPU hours expected |",
            "|---|---|---|---|---|---|---|",
            *(one[0] for one in lines),
            f"| together | | | | | {at_most:,.0f} | {expected:,.0f} |",
        ]
    )


if __name__ == "__main__":
    print(table())
