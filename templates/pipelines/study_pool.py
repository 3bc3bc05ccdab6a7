"""Gather the solutions that the reward models of study.sh score: a row for each different one of a problem.

    python study_pool.py TEMPERATURE CANDIDATES.jsonl REFERENCE.jsonl [TREES.jsonl]

CANDIDATES are sampled at TEMPERATURE, REFERENCE has rollouts, TREES are of scripts/tiny_trees.py. The rows
of pool.jsonl have these fields beside those of solutions:

    count          how many of the candidates are this solution
    answer_class   the number of its answer among those of the candidates; -1: no answer
    probabilities  of this solution at each temperature of TREES; those of a problem have the sum 1
    rollouts       of the reference

policy.json gets the first row of results.jsonl: what depends on no reward model.

N candidates of one problem
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from erprm_cli.answers.grader import Grader
from erprm_cli.evaluation.candidates import answer_classes, check_candidate
from erprm_cli.evaluation.estimates import pass_at_n, votes_at_n
from erprm_cli.io.reading import read_rows
from erprm_cli.rows.schema import check_rollouts

Row = dict[str, Any]
Pool = dict[str, dict[tuple[str, ...], Row]]  # by the id of the problem and the steps of the solution


def gather(candidates: Iterable[Row], reference: Iterable[Row], trees: Iterable[Row]) -> Pool:
    """Return the different solutions of each problem that has candidates, the problems by their ids."""
    pool: Pool = {}

    def add(row: Row, **fields: Any) -> Row:
        own = pool.setdefault(row["id"], {})
        found = own.setdefault(tuple(row["steps"]), row | {"sample": len(own), "count": 0})
        found |= fields
        return found

    for row in candidates:
        add(row)["count"] += 1
    for row in reference:
        add(row, rollouts=row["rollouts"])
    for tree in trees:
        for row in listed(tree):
            add(row, probabilities=row["probabilities"])
    return {id_: pool[id_] for id_ in sorted(pool)}


def listed(tree: Row) -> Iterator[Row]:
    """Yield the listed solutions of a problem as rows with `probabilities`."""
    mass = np.exp([solution["log_probs"] for solution in tree["solutions"]])
    for solution, shares in zip(tree["solutions"], (mass / mass.sum(0)).tolist(), strict=True):
        yield {
            "id": tree["id"],
            "problem": tree["problem"],
            "answer": tree["answer"],
            "solution": "\n".join(solution["steps"]),
            "steps": solution["steps"],
            "reward": solution["reward"],
            "probabilities": {f"{t:g}": share for t, share in zip(tree["temperatures"], shares, strict=True)},
        }


def number_answers(pool: Pool) -> None:
    """Give each candidate its `answer_class`."""
    with Grader() as grader:
        for own in pool.values():
            drawn = [row for row in own.values() if row["count"]]
            classes = answer_classes([row["prediction"] for row in drawn], grader)
            for row, number in zip(drawn, classes.tolist(), strict=True):
                row["answer_class"] = number


def policy_row(pool: Pool, temperature: float, trees: Iterable[Row]) -> Row:
    """Return what the candidates tell without a reward model, and what the trees lack."""
    rng = np.random.default_rng(0)
    accuracy: dict[str, list[float]] = {}
    for own in pool.values():
        drawn = [row for row in own.values() if row["count"]]
        correct_N, class_N = (
            np.repeat([value(row) for row in drawn], [row["count"] for row in drawn])
            for value in (lambda row: row["reward"] > 0.5, lambda row: row["answer_class"])
        )
        budgets = [4**power for power in range(4) if 4**power <= len(correct_N)]
        votes_B = votes_at_n(np.ones(len(correct_N)), correct_N, class_N, budgets, rng)[0]
        for way, value_B in (("majority vote", votes_B), ("pass@n", pass_at_n(correct_N, budgets))):
            for n, value in zip(budgets, value_B.tolist(), strict=True):
                accuracy.setdefault(f"{way}@{n}", []).append(round(value, 4))
    masses = [np.exp([one["log_probs"] for one in tree["solutions"]]).sum(0) for tree in trees]
    return {
        "label": "policy",
        "temperature": temperature,
        "problems": len(pool),
        "distinct": sum(row["count"] > 0 for own in pool.values() for row in own.values()) / len(pool),
        "missing": [round(1 - mass, 5) for mass in np.mean(masses, axis=0).tolist()] if masses else None,
        "accuracy": accuracy,
    }


def main() -> None:
    temperature, candidates, reference, *more = sys.argv[1:]
    trees = [
        json.loads(line) for path in more for line in Path(path).read_text(encoding="utf-8").splitlines()
    ]
    pool = gather(read_rows(candidates, check_candidate), read_rows(reference, check_rollouts), trees)
    number_answers(pool)
    rows = [row for own in pool.values() for row in own.values()]
    Path("pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("policy.json").write_text(json.dumps(policy_row(pool, float(temperature), trees)) + "\n")


if __name__ == "__main__":
    main()
