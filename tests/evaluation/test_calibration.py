"""Calibration against targets computed by hand, and with scores of known calibration."""

import math
from typing import Any

import numpy as np
import pytest

from erprm_cli.errors import RowError
from erprm_cli.evaluation.calibration import Calibration, CalibrationResult, Targets
from erprm_cli.labels.estimator import entropy_regularized, label_of_rate

Row = dict[str, Any]


def row(id_: str, scores: list[float], rollouts: list[list[float]], **more: Any) -> Row:
    steps = [f"step {number}" for number in range(len(scores))]
    made = {"id": id_, "problem": "p", "sample": 0, "solution": " ".join(steps), "steps": steps}
    return made | {"scores": scores, "rollouts": rollouts, "reward": rollouts[-1][0]} | more


def labelled(some: Row, eta: float) -> Row:
    labels = [entropy_regularized(rewards, eta) for rewards in some["rollouts"]]
    return some | {"labels": labels, "eta": eta, "estimator": "er"}


def results(rows: list[Row], aggregates: list[str] | None = None, **options: Any) -> list[CalibrationResult]:
    targets = Targets(**options)
    found = Calibration(targets, aggregates or ["min"])
    for some in rows:
        found.add(targets.check_scored(some))
    return found.results()


ROWS = [
    row("a", [0.8, 0.4, 0.1], [[1.0, 0.0], [0.0, 0.0], [0.0]]),
    row("b", [0.9, 1.0], [[1.0, 1.0], [1.0]]),
]


def test_results_against_rates_by_hand() -> None:
    steps, solutions = results(ROWS)
    assert (steps.of, steps.against, steps.count, steps.problems) == ("steps", "rates", 5, 2)
    assert steps.brier == pytest.approx((0.3**2 + 0.4**2 + 0.1**2 + 0.1**2 + 0) / 5)
    assert steps.noise == pytest.approx(0.25 / 5)  # the variance of 1 and 0 is 0.5, of their mean 0.25
    assert steps.auc == 1.0
    assert (solutions.of, solutions.against, solutions.aggregate) == ("solutions", "reward", "min")
    assert solutions.brier == pytest.approx((0.1**2 + 0.1**2) / 2)
    assert solutions.auc == 1.0


def test_labels_come_from_the_row_or_are_computed_from_its_rollouts() -> None:
    with_labels = [labelled(some, 2.0) for some in ROWS]
    as_they_are, anew = results(with_labels), results(ROWS, against="labels", eta=2.0)
    assert (as_they_are[0].against, as_they_are[0].eta) == ("labels", 2.0)
    assert anew == as_they_are == results(ROWS, eta=2.0)
    assert as_they_are[0].brier == pytest.approx(
        ((0.8 - label_of_rate(0.5, 2)) ** 2 + 0.4**2 + 0.1**2 + 0.1**2) / 5
    )
    hard = results(with_labels, eta=math.inf)[0]
    assert hard.brier == pytest.approx((0.2**2 + 0.4**2 + 0.1**2 + 0.1**2) / 5)
    assert results(with_labels, against="rates")[0] == results(ROWS)[0]


def test_scores_at_an_eta_turn_back_into_rates() -> None:
    scores = [label_of_rate(rate, 5.0) for rate in (0.5, 0.0, 0.0)]
    rows = [row("a", scores, ROWS[0]["rollouts"])]
    assert results(rows, against="rates", eta=5.0)[0].brier == pytest.approx(0)
    assert results(rows, against="rates")[0].brier > 0.02


def test_every_aggregate_is_compared_with_the_reward() -> None:
    found = results(ROWS, ["min", "max"])[1:]
    assert [(result.aggregate, round(result.brier, 4)) for result in found] == [("min", 0.01), ("max", 0.32)]


def test_rows_without_reward_have_no_result_for_solutions() -> None:
    assert len(results([some | {"reward": None} for some in ROWS])) == 1


@pytest.mark.parametrize("eta", [0.0, 2.0])
def test_a_perfect_model_of_many_rollouts_is_calibrated_at_its_eta_and_not_at_another(eta: float) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(400):
        p = rng.random(4)
        rollouts = [(rng.random(64) < rate).astype(float).tolist() for rate in p]
        rows.append(row(str(number), [label_of_rate(rate, eta) for rate in p.tolist()], rollouts))
    same, other = (results(rows, against="labels", eta=at)[0] for at in (eta, 2.0 - eta))
    assert same.error < 0.012 < 0.1 < other.error
    rates = results(rows, against="rates", eta=eta)[0]
    assert rates.error < 0.01
    assert rates.noise == pytest.approx(rates.brier, rel=0.1)  # nothing but the noise of 64 rollouts


@pytest.mark.parametrize(
    ("options", "change", "told"),
    [
        ({}, {"scores": None}, "no 'scores'"),
        ({}, {"rollouts": None}, "no 'rollouts'"),
        ({"against": "labels"}, {}, "no 'labels'"),
        ({}, {"labels": [0.1, 0.1, 0.1]}, "'labels' without 'eta'"),
        ({"against": "rates"}, {"rollouts": [[1.0], [1.0]]}, "'rollouts' has 2 lists for 3 steps"),
    ],
)
def test_a_row_without_targets_is_refused_with_the_reason(options: Row, change: Row, told: str) -> None:
    with pytest.raises(RowError, match=told):
        results([ROWS[0] | change], **options)


def test_labels_at_two_etas_are_not_mixed() -> None:
    mixed = [labelled(ROWS[0], 2.0), labelled(ROWS[1], 0.0)]
    with pytest.raises(RowError, match="labels at eta 0, but rows before have eta 2; --eta recomputes"):
        results(mixed)
    assert results(mixed, eta=2.0) == results(ROWS, against="labels", eta=2.0)
