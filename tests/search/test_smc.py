"""SMC on a chain with known values, against closed forms; every tolerance is a number of standard errors.

p is the success rate: Z = 1 - p + p e^eta; a draw from pi* is right with probability p e^eta / Z;
KL(pi* || pi0) = eta * accuracy - ln Z.
"""

from collections import Counter
from math import exp, log, sqrt

import numpy as np
import pytest

from erprm_cli.labels.estimator import label_of_rate
from erprm_cli.search.config import SearchConfig
from erprm_cli.search.prefix import Found, Prefix, Value
from erprm_cli.search.smc import smc
from erprm_cli.search.weights import systematic
from tests.search.toy import RATE, exact_rate, reward, run

ETAS = (0.5, 1.0, 2.0, 5.0)
SIZES = (4, 16, 64, 256)


def exact(eta: float) -> Value:
    return lambda prefix: label_of_rate(exact_rate(prefix), eta)


def wrong(prefix: Prefix) -> float:
    """A twist that has little to do with the rates; only the last value is the reward."""
    if prefix.is_finished:
        return reward(prefix)
    return (0.9, 0.2, 0.6)[len(prefix.steps) - 1] - 0.3 * prefix.text.endswith("r")


def runs(config: SearchConfig, value: Value, count: int, seed: int = 0) -> list[Found]:
    random = np.random.default_rng(seed)
    return [run(smc(config, value, random), random) for _ in range(count)]


def accuracy(found: Found) -> float:
    """The probability that a draw by the weights is right."""
    weights = np.exp(found.log_weights or [])
    return float(sum(w * reward(one) for w, one in zip(weights, found.solutions, strict=True)))


def assert_mean(values: list[float], expected: float, bias: float = 0.0) -> None:
    """Assert that a mean is `expected` up to 4 standard errors, and up to a known bound of its bias."""
    error = np.std(values, ddof=1) / sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error + bias + 1e-12


def closed_forms(eta: float) -> tuple[float, float, float]:
    z = 1 - RATE + RATE * exp(eta)
    right = RATE * exp(eta) / z
    return z, right, eta * right - log(z)


def test_the_closed_forms_are_those_of_the_method() -> None:
    assert [round(closed_forms(eta)[1], 3) for eta in (0.5, 2.0)] == [0.643, 0.890]
    assert round(closed_forms(2.0)[0], 3) == 4.335


@pytest.mark.parametrize("twist", ["exact", "wrong"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("eta", ETAS)
def test_samples_and_weights_agree_with_the_closed_forms(eta: float, size: int, twist: str) -> None:
    """Z-hat, and Z-hat times the accuracy, have no bias at any N; ratios and logarithms have one of 1/N."""
    z, right, divergence = closed_forms(eta)
    value = exact(eta) if twist == "exact" else wrong
    found = runs(SearchConfig(n=size, eta=eta), value, 4096 // size + 100)
    z_hats = [exp(one.log_z or 0.0) for one in found]
    rights = [accuracy(one) for one in found]
    assert_mean(z_hats, z)
    assert_mean([z_hat * one for z_hat, one in zip(z_hats, rights, strict=True)], RATE * exp(eta))
    # Bound of the bias: the relative variance of one run's weights, at most e^eta / z, over N.
    spread = float(np.var(z_hats)) / z**2
    assert_mean(rights, right, bias=2 * spread)
    kls = [eta * one - log(z_hat) for one, z_hat in zip(rights, z_hats, strict=True)]
    assert_mean(kls, divergence, bias=2 * (eta + 1) * spread)
    if size == 256:
        assert np.mean(rights) == pytest.approx(right, abs=0.03)
        assert np.mean(kls) == pytest.approx(divergence, abs=0.05 * (1 + eta))


@pytest.mark.parametrize("size, drawn", [(4, 0.859), (16, 0.884), (64, 0.892)])
def test_one_draw_is_as_good_as_a_prototype_measured(size: int, drawn: float) -> None:
    config = SearchConfig(n=size, eta=2.0, draws=1)
    rights = [reward(one.solutions[0]) for one in runs(config, exact(2.0), 1500)]
    assert_mean(rights, drawn, bias=0.01)


def test_draws_have_equal_weights_and_follow_the_weights_of_the_particles() -> None:
    config = SearchConfig(n=64, eta=2.0, draws=16)
    found = runs(config, exact(2.0), 300)
    assert all(one.log_weights == pytest.approx([-log(16)] * 16) for one in found)
    assert_mean([accuracy(one) for one in found], closed_forms(2.0)[1], bias=0.01)


def test_without_resampling_smc_is_importance_sampling() -> None:
    (found,) = runs(SearchConfig(n=32, eta=2.0, ess_threshold=0.0), exact(2.0), 1)
    weights = np.array([exp(2.0 * reward(one)) for one in found.solutions])
    assert found.resamplings == 0
    assert np.exp(found.log_weights or []) == pytest.approx(weights / weights.sum())
    assert exp(found.log_z or 0.0) == pytest.approx(weights.mean())


def test_a_constant_twist_until_the_reward_resamples_nothing_before_it() -> None:
    value = lambda prefix: reward(prefix) if prefix.is_finished else 0.37  # noqa: E731
    (found,) = runs(SearchConfig(n=64, eta=5.0, ess_threshold=1.0), value, 1)
    assert found.resamplings == 0


def test_finished_particles_keep_their_weight_while_others_grow() -> None:
    """Solutions of 1 to 4 steps, where each step ends the solution with probability 1/2; all are right."""
    random = np.random.default_rng(1)

    def lengths(n: int) -> Found:
        search = smc(SearchConfig(n=n, eta=1.0), lambda prefix: 0.5, random)
        asked = next(search)
        try:
            while True:
                texts = [one.prefix.text + "r" for one in asked]
                ends = [len(text) == 4 or random.random() < 0.5 for text in texts]
                new = [
                    Prefix(text, (), len(text), tuple(text), (0.5,) * len(text), "stop" if end else None)
                    for text, end in zip(texts, ends, strict=True)
                ]
                asked = search.send(new)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    found = lengths(400)
    counts = Counter(len(one.text) for one in found.solutions)
    assert found.log_weights == pytest.approx([-log(400)] * 400)
    assert abs(counts[1] - 200) < 4 * sqrt(100)
    assert found.log_z == pytest.approx(0.5)


def test_systematic_resampling_rounds_each_share_up_or_down() -> None:
    random = np.random.default_rng(0)
    share_N = random.dirichlet(np.ones(9))
    for _ in range(200):
        counts = Counter(systematic(np.log(share_N), 50, random).tolist())
        assert all(abs(counts[i] - 50 * share) < 1 for i, share in enumerate(share_N))


def test_the_same_random_numbers_give_the_same_particles() -> None:
    config = SearchConfig(n=16, eta=5.0)
    assert runs(config, exact(5.0), 2, seed=7) == runs(config, exact(5.0), 2, seed=7)
    assert runs(config, exact(5.0), 2, seed=7) != runs(config, exact(5.0), 2, seed=8)
