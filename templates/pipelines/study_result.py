"""Print one row: how well one reward model of study.sh chooses, and how well its scores fit.

    python study_result.py SEED SIZE K LABEL SCORES.jsonl CALIBRATION.jsonl [EVAL.jsonl]

SCORES is pool.jsonl (study_pool.py) with scores, CALIBRATION is of `erprm calibrate`, EVAL of `erprm rlhf`.
`accuracy` holds the probability of a correct choice on every problem, for example

    min@16                   the best of 16 candidates by the minimum of the scores of the steps
    weighted vote@16         the answer with the largest sum of these minima
    prod at eta 2@16         by the product of scores that are first converted to labels at eta 2
    exact 1.3 min@16         the best of 16 draws from all listed solutions, at temperature 1.3
    raft                     one greedy solution of the policy after RAFT

A ways to choose, S different solutions of one problem, N candidates, B budgets
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
from erprm_cli.labels.estimator import relabel
from erprm_cli.rows.schema import check_scores

Row = dict[str, Any]

AGGREGATES = ("min", "last", "prod", "mean")
VOTE = "weighted vote"
BUDGETS = (1, 4, 16, 64)
# A monotone conversion of the scores changes these ways, and neither min nor last.
CHANGED, ETAS = ("prod", "mean", VOTE), (0.0, 2.0)


def scores_of(rows: Sequence[Row], eta: float | None) -> dict[str, list[float]]:
    """Return the scores of solutions for each way to choose; for a vote, their weights.

    `eta` is that of the labels of the reward model; None: they do not tell success rates.
    """
    found = {name: [aggregate(row["scores"], name) for row in rows] for name in AGGREGATES}
    found[VOTE] = found["min"]
    for to in ETAS if eta is not None else ():
        converted = [[relabel(score, eta, to) for score in row["scores"]] for row in rows]
        for way in CHANGED:
            name = "min" if way == VOTE else way
            found[f"{way} at eta {to:g}"] = [aggregate(scores, name) for scores in converted]
    return found


def accuracies(
    rows: Sequence[Row], eta: float | None, rng: np.random.Generator
) -> Iterator[tuple[str, float]]:
    """Yield each entry of `accuracy` for the solutions of one problem."""
    scores = scores_of(rows, eta)
    votes = [name for name in scores if name.startswith(VOTE)]
    chosen = [name for name in scores if name not in votes]
    correct_S = np.array([row["reward"] > 0.5 for row in rows])
    count_S = [row["count"] for row in rows]
    correct_N = np.repeat(correct_S, count_S)
    class_N = np.repeat([row.get("answer_class", -1) for row in rows], count_S)
    budgets = [n for n in BUDGETS if n <= len(correct_N)]
    score_AN, weight_AN = (
        np.repeat([scores[name] for name in names], count_S, axis=1) for names in (chosen, votes)
    )
    best_AB = best_of_n(score_AN, correct_N, budgets)
    vote_AB = votes_at_n(weight_AN, correct_N, class_N, budgets, rng)
    for way, value_B in zip((*chosen, *votes), (*best_AB, *vote_AB), strict=True):
        yield from ((f"{way}@{n}", value) for n, value in zip(budgets, value_B.tolist(), strict=True))
    listed = [number for number, row in enumerate(rows) if "probabilities" in row]
    for temperature in rows[listed[0]]["probabilities"] if listed else ():
        probabilities = [rows[number]["probabilities"][temperature] for number in listed]
        for way in AGGREGATES:
            listed_scores = [scores[way][number] for number in listed]
            exact_B = exact_best_of_n(probabilities, listed_scores, correct_S[listed], BUDGETS)
            for n, value in zip(BUDGETS, exact_B.tolist(), strict=True):
                yield f"exact {temperature} {way}@{n}", value


def eta_of(label: str) -> float | None:
    """Return the eta of a label; None if scores of its models do not tell success rates of steps."""
    if label == "soft":
        return 0.0
    return float(label.removeprefix("er")) if label.startswith("er") else None


def main() -> None:
    seed, size, k, label, scores, calibration, *evaluated = sys.argv[1:]
    problems: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(scores, check_scores):
        problems[row["id"]].append(row)
    accuracy: dict[str, list[float]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for id_ in sorted(problems):
        for name, value in accuracies(problems[id_], eta_of(label), rng):
            accuracy[name].append(round(value, 4))
    for path in evaluated:
        rewards = {row["id"]: row["reward"] for row in read_rows(path, dict)}
        accuracy["raft"] = [rewards[id_] for id_ in sorted(problems)]
    steps = next(row for row in read_rows(calibration, dict) if row["of"] == "steps")
    result = {
        "label": label,
        "size": int(size),
        "k": k if k == "exact" else int(k),
        "seed": int(seed),
        "eta": eta_of(label),
    }
    for name in ("auc", "brier", "calibration_error"):  # AUC is null if no step has failed, or all have
        result[name] = None if steps[name] is None else round(steps[name], 5)
    bins = [{name: one[name] for name in ("low", "count", "score", "target")} for one in steps["bins"]]
    result["bins"] = [{name: round(value, 4) for name, value in one.items()} for one in bins]
    print(json.dumps(result | {"accuracy": accuracy}))


if __name__ == "__main__":
    main()
