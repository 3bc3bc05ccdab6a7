"""Metrics against their definitions written out, and with scores of known calibration."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.evaluation.calibration_metrics import (
    auc,
    bootstrap_intervals,
    brier,
    expected_calibration_error,
    reliability,
)

pairs = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]), st.booleans()), min_size=1)


@given(pairs)
def test_auc_is_the_share_of_pairs_in_order_ties_half(rows: list[tuple[float, bool]]) -> None:
    score, is_right = zip(*rows, strict=True)
    wins = [(a > b) + (a == b) / 2 for a, right in rows for b, other in rows if right and not other]
    found = auc(score, is_right)
    assert found == pytest.approx(np.mean(wins)) if wins else found is None


@given(pairs)
def test_reliability_holds_every_score_once_and_the_error_is_its_weighted_gap(
    rows: list[tuple[float, bool]],
) -> None:
    score, target = zip(*rows, strict=True)
    found = reliability(score, target)
    assert sum(part.count for part in found) == len(rows)
    assert all(part.low - 1e-12 <= part.score <= part.high + 1e-12 for part in found)
    gap = 0.0
    for low in range(10):
        inside = [(s, t) for s, t in rows if min(int(s * 10), 9) == low]
        gap += abs(sum(s - t for s, t in inside)) / len(rows)
    assert expected_calibration_error(score, target) == pytest.approx(gap)


def test_a_constant_score_at_the_base_rate_is_calibrated_but_separates_nothing() -> None:
    outcome = np.arange(100) < 30
    score = np.full(100, 0.3)
    assert expected_calibration_error(score, outcome) == pytest.approx(0)
    assert brier(score, outcome) == pytest.approx(0.3 * 0.7)
    assert auc(score, outcome) == 0.5


def test_the_outcome_itself_is_perfect_and_its_opposite_the_worst() -> None:
    outcome = np.arange(10) < 4
    assert (brier(outcome, outcome), expected_calibration_error(outcome, outcome)) == (0, 0)
    assert (auc(outcome, outcome), auc(~outcome, outcome)) == (1, 0)
    assert brier(~outcome, outcome) == expected_calibration_error(~outcome, outcome) == 1


def test_true_probabilities_are_calibrated_and_their_brier_score_is_the_noise_of_the_rates() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(50_000)
    rate = rng.binomial(16, p) / 16
    assert expected_calibration_error(p, rate) < 0.005
    assert brier(p, rate) == pytest.approx((p * (1 - p) / 16).mean(), rel=0.03)


@pytest.mark.parametrize(("score", "target"), [([], []), ([0.5], [0.5, 1]), ([1.5], [1]), ([math.nan], [1])])
def test_invalid_scores_or_targets_are_a_value_error(score: list[float], target: list[float]) -> None:
    with pytest.raises(ValueError):
        brier(score, target)


def test_the_interval_of_independent_scores_holds_the_truth_in_95_of_100_experiments() -> None:
    rng = np.random.default_rng(1)
    trials, inside = 120, np.zeros(2)
    for _ in range(trials):
        right = np.arange(160) % 2 == 0
        score = np.where(right, rng.beta(2, 1, 160), rng.beta(1, 2, 160))
        found = bootstrap_intervals(score, right, np.arange(160), resamples=200)
        # E (s - t)^2 of Beta(1, 2) against 0 is 1/6; P(Beta(2, 1) > Beta(1, 2)) is 5/6
        inside += [low <= truth <= high for (low, high), truth in zip(found, (1 / 6, 5 / 6), strict=True)]
    assert (inside / trials >= 0.88).all() and (inside / trials <= 0.99).all()


def test_steps_of_one_problem_are_not_treated_as_independent() -> None:
    rng = np.random.default_rng(2)
    right = rng.random(40) < 0.5
    score = np.clip(right * 0.5 + rng.random(40) * 0.5, 0, 1)
    once = bootstrap_intervals(score, right, np.arange(40))
    tenfold = bootstrap_intervals(np.repeat(score, 10), np.repeat(right, 10), np.repeat(np.arange(40), 10))
    assert np.array(tenfold) == pytest.approx(np.array(once))
    falsely = bootstrap_intervals(np.repeat(score, 10), np.repeat(right, 10), np.arange(400))
    assert falsely[0][1] - falsely[0][0] < 0.5 * (once[0][1] - once[0][0])


def test_one_problem_has_no_interval() -> None:
    assert all(math.isnan(end) for ends in bootstrap_intervals([0.1, 0.9], [0, 1], [0, 0]) for end in ends)
