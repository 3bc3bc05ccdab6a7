import numpy as np
import pytest

from erprm_cli.calibration import auc, brier, expected_calibration_error


def test_perfect_scores_are_perfect() -> None:
    score = np.array([0.0, 0.25, 1.0])
    assert brier(score, score) == expected_calibration_error(score, score) == 0.0
    assert auc(score, [False, False, True]) == 1.0


def test_auc_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(0)
    score = random.integers(0, 5, 40) / 4
    right = random.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in score[right] for b in score[~right]]
    assert auc(score, right) == pytest.approx(np.mean(pairs))


def test_auc_of_one_class_is_nothing() -> None:
    assert auc([0.1, 0.9], [True, True]) is None


def test_calibration_error_weighs_parts_by_their_scores() -> None:
    score = [0.05] * 3 + [0.95]
    assert expected_calibration_error(score, [0.05, 0.05, 0.05, 0.55]) == pytest.approx(0.1)
    assert expected_calibration_error([0.5, 0.5], [0.0, 1.0]) == 0.0
