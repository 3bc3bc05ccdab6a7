"""Print one row: how well one reward model of study.sh chooses, and how well its scores fit.

    python study_result.py SEED SIZE K LABEL SCORES.jsonl CALIBRATION.jsonl

`accuracy` holds, for each way of choosing and each n, the probability of a correct choice on every problem.
"""

import json
import sys

import numpy as np

from erprm_cli.answers.grader import Grader
from erprm_cli.evaluation.best_of_n import best_of_n
from erprm_cli.evaluation.candidates import CandidateCheck, Candidates
from erprm_cli.evaluation.estimates import votes_at_n
from erprm_cli.io.reading import read_rows

BUDGETS = (1, 4, 16, 64)
AGGREGATES = ("min", "last", "prod", "mean")


def main() -> None:
    seed, size, k, label, scores, calibration = sys.argv[1:]
    pool, check = Candidates(scores, AGGREGATES), CandidateCheck()
    for row in read_rows(scores, check):
        pool.add(row)
    ways = (*AGGREGATES, "weighted vote", "majority vote")
    accuracy: dict[str, dict[int, list[float]]] = {way: {} for way in ways}
    with Grader() as grader:
        problems = sorted(pool.graded(grader=grader), key=lambda problem: problem.id)
    for problem in problems:
        score_AN = problem.score_KAN[0]
        budgets = [n for n in BUDGETS if n <= len(problem.correct_N)]
        best_AB = best_of_n(score_AN, problem.correct_N, budgets)
        weights = np.stack([score_AN[0], np.ones_like(score_AN[0])])
        votes = votes_at_n(weights, problem.correct_N, problem.class_N, budgets, np.random.default_rng(0))
        for way, value_B in zip(accuracy, (*best_AB, *votes), strict=True):
            for n, value in zip(budgets, value_B, strict=True):
                accuracy[way].setdefault(n, []).append(round(float(value), 6))
    steps = next(row for row in read_rows(calibration, dict) if row["of"] == "steps")
    row = {"seed": int(seed), "size": int(size), "k": int(k), "label": label}
    row |= {name: steps[name] for name in ("auc", "brier", "calibration_error")}
    print(json.dumps(row | {"accuracy": accuracy}))


if __name__ == "__main__":
    main()
