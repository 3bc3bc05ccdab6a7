"""Add to the results of a study (templates/pipelines/study.sh) how well its reward models lead a search.

    python scripts/study_search.py DIR

Sequential Monte Carlo runs on the exact trees of DIR with the scores of each reward model (tree_search.py).
The rows of DIR/results.jsonl get in `accuracy`, for each eta of ETAS,

    smc eta 2 draw@16           one of 16 particles, drawn by the weights
    smc eta 2 weighted vote@16  the answer with the largest sum of the minima of scores

Scores are converted to labels at eta, as `erprm search` does; those of hard labels do not tell success rates,
and an outcome model has no scores of steps. DIR/search.jsonl keeps what was found before.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from search_study import judge
from search_tables import DRAW, VOTE
from tiny_trees import Tree, read_trees
from tree_search import Key, Playground, Reading

from erprm_cli.io.reading import read_rows
from erprm_cli.labels.estimator import relabel
from erprm_cli.rows.schema import check_scores
from erprm_cli.search.config import SearchConfig
from erprm_cli.search.prefix import Prefix, Value
from erprm_cli.search.smc import smc

ETAS = (2.0, 5.0)
PARTICLES = 16
RUNS = 2  # searches of each problem
NAMES = {DRAW: "draw", VOTE: "weighted vote"}


def accuracies(trees: list[Tree], scores: Path, learned: float) -> dict[str, list[float]]:
    """Return the accuracy on each problem of SMC at each eta, the mean over its runs."""
    read: dict[Key, Reading] = {}
    for row in read_rows(str(scores), check_scores):
        read[row["id"], tuple(row["steps"])] = tuple(row["scores"]), (0,) * len(row["steps"])
    found: dict[str, list[float]] = defaultdict(list)
    for tree in trees:
        playground = Playground(tree, [read[tree.id, node.steps] for node in tree.solutions])
        for eta in ETAS:
            random = Random(f"{tree.id} {eta:g}")  # the same for every model
            each = []
            for _ in range(RUNS):
                config, value = SearchConfig("smc", PARTICLES, eta), value_at(learned, eta)
                search = smc(config, value, random)  # type: ignore[arg-type]
                each.append(judge(playground, playground.play(search, random).found))
            for way, name in NAMES.items():
                mean = float(np.mean([one[way] for one in each]))
                found[f"smc eta {eta:g} {name}@{PARTICLES}"].append(round(mean, 4))
    return found


def value_at(learned: float, eta: float) -> Value:
    def value(prefix: Prefix) -> float:
        return relabel(prefix.scores[-1], learned, eta)

    return value


def read_json(path: Path) -> list[dict[str, Any]]:
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def main() -> None:
    run = Path(sys.argv[1])
    policy, *rows = read_json(run / "results.jsonl")
    trees = sorted(read_trees(run / "trees.jsonl", policy["temperature"]), key=lambda tree: tree.id)
    policy["optimal"] = {
        f"{eta:g}": float(np.mean([tree.optimal_accuracy(eta) for tree in trees])) for eta in ETAS
    }
    known = {row["name"]: row["accuracy"] for row in read_json(run / "search.jsonl")}
    with (run / "search.jsonl").open("a", encoding="utf-8") as file:
        for row in rows:
            name = "{label}-{size}-{k}-{seed}".format(**row)
            if row["eta"] is None:
                continue
            if name not in known:
                known[name] = accuracies(trees, run / f"scores-{name}.jsonl.gz", row["eta"])
                print(json.dumps({"name": name, "accuracy": known[name]}), file=file, flush=True)
            row["accuracy"] |= known[name]
    draft = run / "results.jsonl.tmp"
    draft.write_text("".join(json.dumps(row) + "\n" for row in (policy, *rows)), encoding="utf-8")
    draft.replace(run / "results.jsonl")


if __name__ == "__main__":
    main()
