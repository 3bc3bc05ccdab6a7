"""The bootstrap over seeds and problems."""

import numpy as np
import pytest

from erprm_cli.evaluation.resampling import middle_95, resampled_means, shares_of_problems, shares_of_seeds


def test_it_has_the_variance_of_crossed_factors() -> None:
    """x_sp = a_s + b_p: that of a mean over S seeds is the unbiased variance of a, divided by S."""
    a_S1, b_P = np.array([[0.0], [0.2], [0.7]]), np.array([0.0, 0.4])
    mean_R = resampled_means(a_S1 + b_P, 200_000)
    assert mean_R.mean() == pytest.approx(0.5, abs=2e-3)
    assert mean_R.var() == pytest.approx(a_S1.var(ddof=1) / 3 + b_P.var() / 2, rel=0.02)


def test_one_seed_is_always_drawn() -> None:
    assert np.array_equal(shares_of_seeds(1, 50), np.ones((50, 1)))
    low, high = middle_95(resampled_means(np.array([[0.5, 0.5, 0.5]]), 100))
    assert (low, high) == (0.5, 0.5)


def test_figures_are_paired_by_the_same_draws() -> None:
    assert shares_of_problems(20, 100) is shares_of_problems(20, 100)
    assert np.array_equal(shares_of_seeds(4, 100), shares_of_seeds(4, 100))
    assert not np.array_equal(shares_of_seeds(4, 100), shares_of_seeds(4, 100, stream=2))


def test_the_shares_of_a_resample_are_one_together() -> None:
    assert shares_of_problems(7, 30).sum(1) == pytest.approx(1)
    assert shares_of_seeds(7, 30).sum(1) == pytest.approx(1)
