"""All methods of `erprm search` on the exact trees of `tiny`: the figures of docs/search.md.

    python scripts/search_study.py                        # prints the tables

It trains reward models with the settings of the demo, with erprm's own commands, lists the solutions of the
problems (tiny_trees.py) and runs every search many times on these trees (tree_search.py), on the test
problems and, to choose eta and tau, on others. What is done is kept in runs/search_study, where the same
command continues. The rows of the tables (search_tables.py) go to search_study.jsonl, and the plots to
docs/images.

P problems
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random

import numpy as np
from search_settings import Setting, compared, tuned, with_exact_values
from search_tables import (
    DRAW,
    LIMIT,
    USED,
    VOTE,
    Cell,
    Place,
    chart,
    exact_rows,
    line_of,
    policy_row,
    read_cells,
    test_rows,
    validation_rows,
)
from tiny_trees import Tree, read_trees, write_trees
from tree_search import Key, Playground, Reading, exact_readings, read_solutions

from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.evaluation.arrays import Floats
from erprm_cli.reports.plots import save_plot
from erprm_cli.rows.row import Row
from erprm_cli.search.methods import METHODS
from erprm_cli.search.prefix import Found
from erprm_cli.search.values import make_value

TEST, VALIDATION = range(450), range(450, 500)  # lines of tiny:test
PARTS = {"test": TEST, "validation": VALIDATION}
TEMPERATURES = (0.7, 1.0, 1.3)
PLOTTED = (0.7, 1.3)
SEEDS = 3  # reward models of each kind
KINDS = {"er": ("--eta", 2), "soft": ("--estimator", "soft")}  # labels, by the flags that make them
RESULTS = Path(__file__).with_suffix(".jsonl")
IMAGES = Path(__file__).parents[1] / "docs" / "images"


# ---- The reward models


def erprm(*words: object, stdout: Path | None = None) -> None:
    """Run a command of erprm; the command continues or skips what is there."""
    command = [sys.executable, "-m", "erprm_cli", *map(str, words)]
    with open(stdout or os.devnull, "w") as log_file:
        subprocess.run(command, check=True, stdout=log_file)


def train_prms(run: Path) -> dict[str, list[Path]]:
    """Return the reward models of each kind, trained on the same rollouts with the settings of the demo."""
    solutions, rollouts = run / "solutions.jsonl", run / "rollouts.jsonl"
    sampling = ("-n", 8, "--temperature", 1, "--max-tokens", 160)
    erprm("sample", "tiny:train", "-L", 300, *sampling, "-o", solutions)
    erprm("rollout", solutions, "-k", 16, "--max-tokens", 160, "-o", rollouts)
    prms: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    labels = {kind: run / f"{kind}.labels.jsonl" for kind in KINDS}
    for kind, flags in KINDS.items():
        erprm("label", rollouts, *flags, "-o", labels[kind])
    for seed in range(SEEDS):
        for kind, trained in prms.items():
            prm = run / f"prm-{kind}-{seed}"
            settings = ("--base", "tiny", "--epochs", 3, "--lr", "1e-3", "--seed", seed)
            log = run / f"{prm.name}.log.jsonl"
            erprm("train", labels[kind], *settings, "-o", prm, stdout=log)
            trained.append(prm)
    return prms


def readings(prm: Path, trees: Sequence[Tree]) -> dict[Key, Reading]:
    """Return what the PRM reads in every solution of the trees; a file keeps what was read before."""
    path = prm.with_name(f"{prm.name}.readings.jsonl")
    if not path.exists():
        from erprm_cli.prm.scorer import Scorer  # loads torch

        found = read_solutions(trees, Scorer(str(prm)))
        write_whole(path, ([*key, *reading] for key, reading in found.items()))
    rows = map(json.loads, path.read_text().splitlines())
    return {(id_, tuple(steps)): (tuple(scores), tuple(ends)) for id_, steps, scores, ends in rows}


def write_whole(path: Path, values: Iterable[object]) -> None:
    """Write a JSONL file that is there only when it is complete."""
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        file.writelines(json.dumps(value) + "\n" for value in values)
    draft.replace(path)


# ---- One search


def judge(playground: Playground, found: Found) -> dict[str, float]:
    """Return how often each way of choosing is right; tied solutions or answers are chosen equally often."""
    solutions = found.solutions
    reward_N = np.array([playground.reward(one) for one in solutions])
    weight_N = np.full(len(solutions), 1 / len(solutions))
    if found.log_weights is not None:
        weight_N = np.exp(found.log_weights)
    chosen = {DRAW: float(weight_N @ reward_N)}
    for name in ("min", "last"):
        score_N = np.array([aggregate(one.scores, name) for one in solutions])
        chosen[name] = float(reward_N[score_N == score_N.max()].mean())
        if name == "min":
            chosen[VOTE] = vote([playground.answer(one) for one in solutions], score_N, reward_N)
    return chosen


def vote(answers: Sequence[str | None], weight_N: Floats, reward_N: Floats) -> float:
    """Return the accuracy of the answer with the largest sum of weights; 0 if no solution has an answer."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, answer in enumerate(answers):
        if answer is not None:
            members[answer].append(i)
    sums = {answer: weight_N[own].sum() for answer, own in members.items()}
    top = [answer for answer, total in sums.items() if total >= max(sums.values()) * (1 - 1e-9)]
    return float(np.mean([reward_N[members[answer]].mean() for answer in top])) if top else 0.0


# ---- Many searches


def measure(setting: Setting, playgrounds: Sequence[Playground], prm: Path | None, samples: int) -> Row:
    """Run a search samples / n times on every problem; without a PRM, the values are exact.

    Return the accuracies of each problem, and the means of what was used.
    """
    config = setting.config
    runs = max(1, samples // config.n)
    of_scores = make_value(config, str(prm)) if prm else None
    accuracy: dict[str, list[float]] = defaultdict(list)
    used: list[tuple[int, int, int, int]] = []
    for playground in playgrounds:
        tree = playground.tree
        random = Random(f"{setting.name} {config.n} {prm and prm.name} {tree.temperature} {tree.id}")
        value = of_scores or partial(playground.exact_value, eta=config.eta)
        total: dict[str, float] = defaultdict(float)
        for _ in range(runs):
            rule = setting.rule or METHODS[config.method]
            answered = playground.play(rule(config, value, random), random)  # type: ignore[arg-type]
            for way, right in judge(playground, answered.found).items():
                total[way] += right / runs
            distinct = len({one.text for one in answered.found.solutions})
            used.append((answered.generated, answered.prm, answered.prm_new, distinct))
        if config.method == "smc" and setting.rule is None:
            total[LIMIT] = playground.limit(value, config.eta)
        for way, mean in total.items():
            accuracy[way].append(round(mean, 5))
    means = dict(zip(USED, np.mean(used, axis=0).tolist(), strict=True))
    return {"search": setting.name, "n": config.n, "runs": runs, "used": means, "accuracy": accuracy}


def searched(run: Path, prm: Path | None, trees: Sequence[Sequence[Tree]], samples: int) -> None:
    """Run all searches with a PRM, or with exact values; `trees` are those of each temperature.

    A file for each temperature and each part of the problems keeps the results.
    """
    read: dict[Key, Reading] = {}
    for temperature, every in zip(TEMPERATURES, trees, strict=True):
        for part, lines in PARTS.items():
            path = results(run, part, temperature, prm, samples)
            settings = with_exact_values() if prm is None else tuned() if part == "validation" else compared()
            done = list(map(json.loads, path.read_text().splitlines())) if path.exists() else []
            known = {(row["search"], row["n"]) for row in done}
            missing = [one for one in settings if (one.name, one.config.n) not in known]
            if not missing or (prm is None and part == "validation"):
                continue
            read = read or (readings(prm, every) if prm else exact_readings(every))
            playgrounds = [
                Playground(tree, [read[tree.id, node.steps] for node in tree.solutions])
                for tree in (every[line] for line in lines)
            ]
            new = (measure(setting, playgrounds, prm, samples) for setting in missing)
            write_whole(path, chain(done, new))


def results(run: Path, part: str, temperature: float, prm: Path | None, samples: int) -> Path:
    """Return the file of the searches with a PRM."""
    return run / f"{prm.name if prm else 'exact'}.{part}-{temperature}-{samples}.jsonl"


def main() -> None:
    """Print the tables, and write their rows and the plots."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/search_study"), help="folder of the run")
    parser.add_argument("--samples", type=int, default=32, help="per problem; so many / n searches")
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    prms = train_prms(args.run)
    listed = args.run / "trees.jsonl"
    write_trees("tiny:test", listed)
    trees = [sorted(read_trees(listed, one), key=lambda tree: tree.id) for one in TEMPERATURES]
    for prm in (None, *chain(*prms.values())):
        searched(args.run, prm, trees, args.samples)
    rows: list[Row] = []
    for temperature, every in zip(TEMPERATURES, trees, strict=True):

        def found(part: str, prm: Path | None, temperature: float = temperature) -> dict[Place, Cell]:
            return read_cells(results(args.run, part, temperature, prm, args.samples))

        tested, validated = (
            {kind: [found(part, prm) for prm in own] for kind, own in prms.items()} for part in PARTS
        )
        tests = [every[line] for line in TEST]
        rows.append(policy_row(temperature, tests))
        rows += test_rows(temperature, tested, tests)
        rows += exact_rows(temperature, found("test", None))
        rows += validation_rows(temperature, validated)
    print(*map(line_of, rows), sep="\n")
    RESULTS.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    for temperature in PLOTTED:
        save_plot(chart(rows, temperature), str(IMAGES / f"search-{temperature}.png"))


if __name__ == "__main__":
    main()
