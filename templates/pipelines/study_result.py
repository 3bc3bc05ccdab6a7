"""Print one row: how well one reward model of study.sh chooses, and how well its scores fit.

    python study_result.py SEED SIZE K LABEL SCORES.jsonl CALIBRATION.jsonl [EVAL.jsonl]

SCORES is pool.jsonl (study_pool.py) with scores, CALIBRATION is of `erprm calibrate`, EVAL of `erprm rlhf`.
`accuracy` holds the probability of a correct choice on every problem, for example

    min@16            the best of 16 candidates by the minimum of the scores of the steps
    weighted vote@16  the answer with the largest sum of these minima
    exact 1.3 min@16  the best of 16 by the probabilities of all listed solutions at temperature 1.3
    raft              one greedy solution of the policy after RAFT

A aggregates, S different solutions of one problem, N candidates, B budgets
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.evaluation.best_of_n import best_of_n, exact_best_of_n
from erprm_cli.evaluation.estimates import votes_at_n
from erprm_cli.io.reading import read_rows
from erprm_cli.rows.schema import check_scores

Row = dict[str, Any]

AGGREGATES = ("min", "last", "prod", "mean")
BUDGETS = (1, 4, 16, 64)


def accuracies(rows: Sequence[Row], rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Yield each entry of `accuracy` for the solutions of one problem."""
    score_AS = np.array([[aggregate(row["scores"], name) for row in rows] for name in AGGREGATES])
    correct_S = np.array([row["reward"] > 0.5 for row in rows])
    count_S = [row["count"] for row in rows]
    score_AN, correct_N = np.repeat(score_AS, count_S, axis=1), np.repeat(correct_S, count_S)
    class_N = np.repeat([row.get("answer_class", -1) for row in rows], count_S)
    budgets = [n for n in BUDGETS if n <= len(correct_N)]
    votes_B = votes_at_n(score_AN[0], correct_N, class_N, budgets, rng)[0]
    ways = zip(
        (*AGGREGATES, "weighted vote"), (*best_of_n(score_AN, correct_N, budgets), votes_B), strict=True
    )
    for way, value_B in ways:
        yield from ((f"{way}@{n}", value) for n, value in zip(budgets, value_B.tolist(), strict=True))
    is_listed_S = np.array(["probabilities" in row for row in rows])
    listed = [row["probabilities"] for row in rows if "probabilities" in row]
    for temperature in listed[0] if listed else ():
        probability_S = [found[temperature] for found in listed]
        for way, score_S in zip(AGGREGATES, score_AS[:, is_listed_S], strict=True):
            exact_B = exact_best_of_n(probability_S, score_S, correct_S[is_listed_S], BUDGETS)
            for n, value in zip(BUDGETS, exact_B.tolist(), strict=True):
                yield f"exact {temperature} {way}@{n}", value


def main() -> None:
    seed, size, k, label, scores, calibration, *evaluated = sys.argv[1:]
    problems: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(scores, check_scores):
        problems[row["id"]].append(row)
    accuracy: dict[str, list[float]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for id_ in sorted(problems):
        for name, value in accuracies(problems[id_], rng):
            accuracy[name].append(round(value, 4))
    for path in evaluated:
        rewards = {row["id"]: row["reward"] for row in read_rows(path, dict)}
        accuracy["raft"] = [rewards[id_] for id_ in sorted(problems)]
    steps = next(row for row in read_rows(calibration, dict) if row["of"] == "steps")
    result = {"label": label, "size": int(size), "k": int(k), "seed": int(seed)}
    result |= {name: steps[name] for name in ("auc", "brier", "calibration_error", "bins")}
    print(json.dumps(result | {"accuracy": accuracy}))


if __name__ == "__main__":
    main()
