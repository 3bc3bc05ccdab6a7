"""Intervals and differences against closed forms, and simulations with a known truth."""

import math

import numpy as np
import pytest

from erprm_cli.evaluation.best_of_n import best_of_n
from erprm_cli.evaluation.intervals import mean_over_problems, paired_difference


def test_the_interval_of_zeros_and_ones_is_wilsons() -> None:
    # the p at which 42 of 50 lies 1.96 standard errors of p away: (p - 0.84)^2 = z^2 p (1 - p) / 50
    z2 = 1.959963984540054**2 / 50
    low, high = sorted(np.roots([1 + z2, -(2 * 0.84 + z2), 0.84**2]))
    estimate = mean_over_problems([1] * 42 + [0] * 8)
    assert (estimate.value, estimate.problems) == (0.84, 50)
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    none_right = mean_over_problems(np.zeros(50))
    assert (none_right.low, round(none_right.high, 4)) == (0.0, 0.0713)


def test_estimates_that_vary_less_between_problems_have_a_smaller_interval() -> None:
    sure, unsure = mean_over_problems([0, 1] * 50), mean_over_problems([0.4, 0.6] * 50)
    assert unsure.high - unsure.low < 0.25 * (sure.high - sure.low)
    assert mean_over_problems([0.3]).high - mean_over_problems([0.3]).low > 0.7  # one problem says little


@pytest.mark.parametrize(("n", "problems"), [(1, 40), (4, 40), (16, 40), (16, 300)])
def test_intervals_hold_the_truth_in_95_of_100_experiments(n: int, problems: int) -> None:
    rng = np.random.default_rng(5)
    # each problem has its own chance of a correct candidate; correct ones score higher by one deviation
    ease = rng.beta(0.5, 1.0, (1000, problems))
    correct = rng.random((1000, problems, 16)) < ease[..., None]
    values = best_of_n(rng.normal(correct, 1), correct, [n])[..., 0]
    truth = values.mean()  # of 40,000 or more problems: its own error is a twentieth of an interval
    estimates = [mean_over_problems(row) for row in values]
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
    assert 0.93 <= covered <= 0.975


def test_a_model_differs_from_itself_by_0_with_p_1() -> None:
    values = np.random.default_rng(6).random(200)
    estimate = paired_difference(values, values)
    assert (estimate.value, estimate.low, estimate.high, estimate.p) == (0, 0, 0, 1)


def test_the_sign_flip_test_of_few_zeros_and_ones_is_mcnemars_exact_test() -> None:
    # 9 problems only ours solves, 2 only theirs: 2 * (C(11,0) + C(11,1) + C(11,2)) / 2^11
    ours, theirs = [1] * 9 + [0] * 2 + [1] * 30, [0] * 9 + [1] * 2 + [1] * 30
    assert paired_difference(ours, theirs).p == pytest.approx(2 * (1 + 11 + 55) / 2**11)


def test_random_sign_flips_agree_with_the_exact_test() -> None:
    # 24 against 12 discordant problems: McNemar's exact p
    exact = 2 * sum(math.comb(36, k) for k in range(13)) / 2**36
    ours, theirs = [1] * 24 + [0] * 12, [0] * 24 + [1] * 12
    assert paired_difference(ours, theirs, seed=1).p == pytest.approx(exact, abs=0.01)


def test_the_paired_interval_is_students() -> None:
    # differences 0.1, 0.2, 0.3, 0.4: mean 0.25, standard error 0.06455, t(3) = 3.182
    estimate = paired_difference([0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0])
    assert estimate.value == pytest.approx(0.25)
    assert estimate.high - estimate.value == pytest.approx(3.182 * 0.064550, rel=0.01)


# As scipy.special.stdtrit(freedom, 0.975) gives them, with how far the series may be off.
T_QUANTILES = {
    1: (12.706204736, 1e-9),
    2: (4.3026527297, 1e-9),
    3: (3.1824463053, 0.0074),
    4: (2.7764451052, 0.0026),
    5: (2.5705818356, 0.0012),
    9: (2.2621571628, 1.2e-4),
    19: (2.0930240544, 6e-6),
    30: (2.0422724563, 1e-6),
    99: (1.9842169516, 1e-8),
    499: (1.9647293910, 1e-9),
}


@pytest.mark.parametrize("freedom", T_QUANTILES)
def test_the_paired_interval_has_the_quantile_of_students_t(freedom: int) -> None:
    difference = np.resize([1e-3, -1e-3, 3e-3], freedom + 1)
    estimate = paired_difference(difference, np.zeros(freedom + 1))
    error = difference.std(ddof=1) / math.sqrt(freedom + 1)
    quantile, tolerance = T_QUANTILES[freedom]
    assert (estimate.high - estimate.value) / error == pytest.approx(quantile, rel=tolerance)


def test_exchanging_the_two_turns_the_sign_and_nothing_else() -> None:
    ours, theirs = np.random.default_rng(7).random((2, 60))
    there, back = paired_difference(ours, theirs), paired_difference(theirs, ours)
    assert back.value == pytest.approx(-there.value)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.p == there.p


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    rng = np.random.default_rng(8)
    p_values = np.array([paired_difference(*rng.random((2, 40))).p for _ in range(200)])
    assert 0.01 <= (p_values < 0.05).mean() <= 0.10
    assert 0.4 <= (p_values < 0.5).mean() <= 0.6
