from collections.abc import Sequence
from math import exp, inf, isclose, isfinite, log, nan, nextafter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp, mpf

from erprm_cli.labels.estimator import (
    entropy_regularized,
    estimator_error,
    estimator_name,
    eta_in_row,
    eta_of_row,
    label_of_rate,
    rate_of_label,
    relabel,
)

# K = 16, eta = 1, in thousandths: the grid on which the authors' released labels lie (method.md).
RELEASED = (0, 102, 195, 279, 357, 430, 497, 561, 620, 676, 729, 780, 828, 874, 918, 960, 1000)
TIGHT = 1e-12

reward = st.floats(-100, 100)
rewards = st.lists(reward, min_size=1, max_size=12)
finite_eta = st.floats(-1e6, 1e6)
any_eta = finite_eta | st.sampled_from([inf, -inf, 0.0, 1e-300, -1e-300, 5e-324, 1e308, -1e308])


def exact(values: Sequence[float], eta: float) -> float:
    """(ER) as it is written, with enough digits that nothing needs care."""
    with mp.workdps(500):
        mean = sum(mp.exp(mpf(eta) * mpf(value)) for value in values) / len(values)
        return float(mp.log(mean) / mpf(eta))


def of_wins(wins: int, k: int, eta: float) -> float:
    return entropy_regularized([1.0] * wins + [0.0] * (k - wins), eta)


@pytest.mark.parametrize("wins", range(17))
def test_the_labels_of_the_released_data(wins: int) -> None:
    assert round(of_wins(wins, 16, 1), 3) == RELEASED[wins] / 1000


@pytest.mark.parametrize("eta", [1e-18, 1e-12, 1e-6, 0.01, 0.5, 1.0, 1.001, 2.0, 10.0, 300.0, 1e4, 1e6])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "values", [[0, 1], [0] * 15 + [1], [1] * 15 + [0], [0.25, -3.5, 7], [1e-9, 2e-9], [1e5, 1e5 + 1, 3]]
)
def test_any_eta_agrees_with_arithmetic_of_500_digits(values: list[float], eta: float, sign: int) -> None:
    scale = max(map(abs, values))
    assert abs(entropy_regularized(values, sign * eta) - exact(values, sign * eta)) <= 4e-16 * scale


@given(rewards)
def test_the_limits_are_mean_maximum_and_minimum(values: list[float]) -> None:
    assert isclose(entropy_regularized(values, 0), sum(values) / len(values), rel_tol=TIGHT, abs_tol=TIGHT)
    assert entropy_regularized(values, inf) == max(values)
    assert entropy_regularized(values, -inf) == min(values)
    assert entropy_regularized(values, 1e308) == pytest.approx(max(values), rel=TIGHT, abs=1e-300)


@given(rewards, any_eta)
def test_a_label_lies_between_the_least_and_the_greatest_reward(values: list[float], eta: float) -> None:
    assert min(values) <= entropy_regularized(values, eta) <= max(values)


@given(rewards, any_eta, any_eta)
def test_a_label_grows_with_eta(values: list[float], one: float, other: float) -> None:
    low, high = sorted([one, other])
    assert entropy_regularized(values, low) <= entropy_regularized(values, high) + TIGHT


@given(rewards, any_eta, st.data())
def test_a_label_grows_with_every_reward(values: list[float], eta: float, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(values) - 1))
    better = [*values]
    better[index] += data.draw(st.floats(0, 50))
    assert entropy_regularized(values, eta) <= entropy_regularized(better, eta) + TIGHT


@given(st.integers(2, 64), st.floats(-20, 20), st.data())
def test_one_more_success_is_a_greater_label(k: int, eta: float, data: st.DataObject) -> None:
    wins = data.draw(st.integers(0, k - 1))
    assert of_wins(wins, k, eta) < of_wins(wins + 1, k, eta)


@given(rewards, any_eta, st.floats(-1000, 1000))
def test_a_constant_added_to_all_rewards_is_added_to_the_label(
    values: list[float], eta: float, constant: float
) -> None:
    shifted = entropy_regularized([value + constant for value in values], eta)
    assert isclose(shifted, entropy_regularized(values, eta) + constant, abs_tol=1e-9)


@given(rewards, finite_eta)
def test_turning_rewards_and_eta_round_turns_the_label_round(values: list[float], eta: float) -> None:
    turned = -entropy_regularized([-value for value in values], -eta)
    assert isclose(entropy_regularized(values, eta), turned, rel_tol=TIGHT, abs_tol=TIGHT)


@given(rewards, any_eta)
def test_the_order_of_the_rewards_does_not_matter(values: list[float], eta: float) -> None:
    assert entropy_regularized(values, eta) == entropy_regularized(sorted(values), eta)


@given(st.floats(allow_nan=False, allow_infinity=False), any_eta)
def test_one_outcome_is_its_own_label_at_every_eta(value: float, eta: float) -> None:
    assert entropy_regularized([value], eta) == value


@given(st.lists(reward, min_size=2, max_size=8), st.floats(-1e-3, 1e-3))
def test_a_label_leaves_the_mean_by_half_eta_times_the_variance(values: list[float], eta: float) -> None:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    third = abs(eta) ** 2 * max(abs(value - mean) for value in values) ** 3
    assert abs(entropy_regularized(values, eta) - mean - eta * variance / 2) <= third + TIGHT


@pytest.mark.parametrize("eta", [inf, 1e308, 1e6, 1.0, 1e-300, 0.0, -1e-300, -1.0, -inf])
def test_rewards_near_the_largest_float_do_not_overflow(eta: float) -> None:
    top = 1.7e308
    assert -top <= entropy_regularized([top, -top, top], eta) <= top
    assert entropy_regularized([1e300] * 5, eta) == 1e300
    assert entropy_regularized([top] * 20, eta) == top


def test_huge_rewards_have_their_label() -> None:
    assert entropy_regularized([1e300, 3e300], 0) == pytest.approx(2e300)
    assert entropy_regularized([1e300, 3e300], 1) == 3e300
    assert entropy_regularized([0.0, 1e300], 2e-300) == pytest.approx(log((1 + exp(2)) / 2) / 2 * 1e300)


def test_a_label_of_zero_has_no_sign() -> None:
    assert str(entropy_regularized([-0.0, -0.0], -1)) == "0.0"


@pytest.mark.parametrize(
    ("values", "eta"), [([], 1), ([nan, 1], 1), ([1, nan], 1), ([inf], 1), ([1, 0], nan)]
)
def test_what_has_no_label_is_an_error(values: list[float], eta: float) -> None:
    with pytest.raises(ValueError):
        entropy_regularized(values, eta)


@given(st.integers(1, 64), any_eta, st.data())
def test_the_label_of_a_rate_is_the_label_of_its_rewards(k: int, eta: float, data: st.DataObject) -> None:
    wins = data.draw(st.integers(0, k))
    assert isclose(label_of_rate(wins / k, eta), of_wins(wins, k, eta), abs_tol=1e-14)


@given(st.floats(1e-3, 1 - 1e-3), st.floats(-300, 300))
def test_the_rate_comes_back_from_the_label(rate: float, eta: float) -> None:
    # At a large eta all labels lie near 0 or 1, so that a last digit of the label is worth eta of them.
    assert isclose(rate_of_label(label_of_rate(rate, eta), eta), rate, rel_tol=1e-13 * max(1, abs(eta)) * 1e3)


@given(st.integers(1, 32), st.floats(-30, 30), st.floats(-30, 30), st.data())
def test_relabelling_is_labelling_anew(k: int, eta: float, to: float, data: st.DataObject) -> None:
    assume(abs(eta) > 1e-9)
    wins = data.draw(st.integers(0, k))
    assert isclose(relabel(of_wins(wins, k, eta), eta, to), of_wins(wins, k, to), abs_tol=1e-12)


def test_relabelling_between_large_etas_passes_rates_that_no_float_holds() -> None:
    # v = 0.1 at eta 1000 is p = e^-900, and at eta 2000 that is v = 1 - 900/2000.
    assert relabel(0.1, 1000, 2000) == pytest.approx(0.55, abs=1e-12)
    assert relabel(0.9, -1000, -2000) == pytest.approx(0.45, abs=1e-12)
    assert relabel(0.55, 2000, 1000) == pytest.approx(0.1, abs=1e-12)
    assert rate_of_label(0.1, 1000) == 0


@pytest.mark.parametrize("eta", [1e6, -1e6, 1e-300, -1e-300, 0.0, 5e-324])
def test_the_ends_are_their_own_labels(eta: float) -> None:
    assert [label_of_rate(end, eta) for end in (0, 1)] == [0, 1]
    assert [rate_of_label(end, eta) for end in (0, 1)] == [0, 1]
    assert [relabel(end, eta, -eta) for end in (0, 1)] == [0, 1]


def test_an_infinite_eta_does_not_invert() -> None:
    with pytest.raises(ValueError):
        rate_of_label(1.0, inf)
    assert relabel(0.3, 1, inf) == 1
    assert relabel(0.3, 1, -inf) == 0


@pytest.mark.parametrize(
    ("eta", "bias", "deviation"), [(1, -0.0085, 0.13), (2, -0.022, 0.15), (5, -0.147, 0.26)]
)
def test_the_worst_error_at_16_rollouts(eta: float, bias: float, deviation: float) -> None:
    errors = [estimator_error(rate / 200, 16, eta) for rate in range(201)]
    assert min(error[0] for error in errors) == pytest.approx(bias, abs=6e-4)
    assert max(error[1] for error in errors) == pytest.approx(deviation, abs=6e-3)


def test_the_mean_has_no_bias() -> None:
    bias, deviation = estimator_error(0.3, 16, 0)
    assert bias == pytest.approx(0, abs=1e-15)
    assert deviation == pytest.approx((0.3 * 0.7 / 16) ** 0.5)


@pytest.mark.parametrize("eta", [0.0, 1.0, -2.5, inf, -inf, nextafter(0, 1)])
def test_a_row_tells_the_eta_that_made_it(eta: float) -> None:
    assert eta_of_row(eta_in_row(eta), estimator_name(eta)) == eta


def test_no_eta_and_no_name_is_an_error() -> None:
    with pytest.raises(ValueError):
        eta_of_row(None, "er")


tiny = st.floats(-320, 0).map(lambda exponent: 10.0**exponent)
near_0_or_1 = st.one_of(tiny, tiny.map(lambda share: 1 - share)).filter(lambda share: 0 < share < 1)


@given(near_0_or_1, any_eta, any_eta)
def test_tiny_rates_and_labels_stay_in_the_range_of_the_rewards(share: float, eta: float, to: float) -> None:
    assert 0 <= label_of_rate(share, eta) <= 1
    if isfinite(eta):
        assert 0 <= rate_of_label(share, eta) <= 1
        assert 0 <= relabel(share, eta, to) <= 1


@pytest.mark.parametrize(("rate", "eta"), [(1e-17, -2.0), (1e-300, -0.01), (1e-20, -1e-3)])
def test_a_tiny_rate_at_a_negative_eta_has_no_negative_label(rate: float, eta: float) -> None:
    assert label_of_rate(rate, eta) >= 0
    assert relabel(rate, eta, 2.0) >= 0
