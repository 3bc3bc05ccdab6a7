"""The searches that search_study.py compares: those of `erprm search`, and rules that it does not offer."""

from collections.abc import Callable, Iterator
from math import log
from random import Random
from typing import NamedTuple

import numpy as np

from erprm_cli.search.config import SearchConfig
from erprm_cli.search.prefix import Extension, Found, Prefix, Search, Value
from erprm_cli.search.weights import effective_sample_size, shares, systematic

BASELINE, GREEDY = "best-of-n", "greedy particles"
HALF_GREEDY = "half greedy, eta 10, tau 0.9"
BUDGETS = (4, 8, 16, 32)
MOST = 2 * BUDGETS[-1]  # samples of the baseline: to compare at equal tokens what writes more than N samples
TUNED_BUDGETS = (4, 8, 16)  # of the settings among which the validation problems choose
ETAS, THRESHOLDS = (2.0, 5.0, 10.0, 20.0), (0.5, 0.75, 0.9, 1.0)

Rule = Callable[[SearchConfig, Value, Random], Search]


class Setting(NamedTuple):
    """A search with its name in the tables; `rule`, if given, is one that erprm does not offer."""

    name: str
    config: SearchConfig
    rule: Rule | None = None


def compared() -> Iterator[Setting]:
    """Yield what the tables compare, the baseline first."""
    for n in BUDGETS:
        yield Setting(BASELINE, SearchConfig("best-of-n", n))
        for name in ("beam", "dvts", "lookahead"):
            yield Setting(f"{name}, M = 4", SearchConfig(name, n))
        yield Setting(GREEDY, SearchConfig("smc", n), greedy_particles)
        for eta, threshold in ((2.0, 0.5), (5.0, 0.5), (10.0, 0.5), (5.0, 0.9), (10.0, 0.9)):
            yield smc_setting(n, eta, threshold)
        yield Setting(HALF_GREEDY, SearchConfig("smc", n, 10.0, 0.9), scheduled(0.5))
    yield Setting(BASELINE, SearchConfig("best-of-n", MOST))


def with_exact_values() -> Iterator[Setting]:
    """Yield what is run with exact values, and with rewards as the values of whole solutions."""
    for n in BUDGETS:
        for eta in (2.0, 10.0):
            yield smc_setting(n, eta, 0.5)


def tuned() -> Iterator[Setting]:
    """Yield the settings of SMC among which the validation problems choose, and other schedules."""
    for n in TUNED_BUDGETS:
        yield Setting(BASELINE, SearchConfig("best-of-n", n))
        for eta in ETAS:
            for threshold in THRESHOLDS:
                yield smc_setting(n, eta, threshold)
        yield Setting(GREEDY, SearchConfig("smc", n), greedy_particles)
        config = SearchConfig("smc", n, 10.0, 0.9)
        for share in (0.25, 0.5, 1.0):
            yield Setting(f"eta 10, tau 0.9, {share:.0%} greedy", config, scheduled(share))
        yield Setting("the same, 50%, no last resampling", config, scheduled(0.5, resamples_last=False))
        yield Setting("eta 10, tau 0.9, rising", config, scheduled(factor=lambda step: 1 - 0.5**step))
        yield Setting("eta 10, tau 0.9, falling", config, scheduled(factor=lambda step: 1 + 0.5**step))


def smc_setting(n: int, eta: float, threshold: float) -> Setting:
    """Return SMC as erprm offers it."""
    return Setting(f"smc, eta {eta:g}, tau {threshold:g}", SearchConfig("smc", n, eta, threshold))


def greedy_particles(config: SearchConfig, value: Value, random: Random) -> Search:
    """Resample after every step in proportion to score / (1 - score): the particle filter of its_hub 1.2.0.

    The weight is not divided by that of the previous step, so this searches for high scores and samples from
    no stated distribution. As in SMC, solutions are not resampled after the last step.
    """
    particles = [Prefix()] * config.n
    while growing := [i for i, particle in enumerate(particles) if not particle.is_finished]:
        for i, prefix in zip(growing, (yield [Extension(particles[i], i) for i in growing]), strict=True):
            particles[i] = prefix
        if not all(particle.is_finished for particle in particles):
            odds_N = np.array([log(p / (1 - p)) for p in (clipped(one.scores[-1]) for one in particles)])
            particles = [particles[i] for i in systematic(odds_N, config.n, random)]  # type: ignore[arg-type]
    return Found(particles)


def clipped(score: float) -> float:
    """Return a score inside (0, 1)."""
    return min(max(score, 1e-6), 1 - 1e-6)


def scheduled(
    share: float = 0.0, factor: Callable[[int], float] = lambda step: 1.0, resamples_last: bool = True
) -> Rule:
    """Return SMC with another schedule, to see whether it does better.

    The potential of a prefix of l steps is factor(l) eta v, that of a solution eta v. A weight grows by the
    potential, less 1 - `share` of the one of the step before: share 1 is a greedy rule. With
    `resamples_last`, whole solutions are resampled by their weights too, so the vote counts the weights.
    """

    def rule(config: SearchConfig, value: Value, random: Random) -> Search:
        particles, log_w_N, before_N = [Prefix()] * config.n, np.zeros(config.n), np.zeros(config.n)
        while growing := [i for i, particle in enumerate(particles) if not particle.is_finished]:
            for i, prefix in zip(growing, (yield [Extension(particles[i], i) for i in growing]), strict=True):
                particles[i] = prefix
                times = 1.0 if prefix.is_finished else factor(len(prefix.steps))
                potential = times * config.eta * value(prefix)
                log_w_N[i] += potential - (1 - share) * before_N[i]
                before_N[i] = potential
            goes_on = resamples_last or not all(particle.is_finished for particle in particles)
            if goes_on and effective_sample_size(log_w_N) < config.ess_threshold * config.n:
                chosen_N = systematic(log_w_N, config.n, random)  # type: ignore[arg-type]
                particles, before_N = [particles[i] for i in chosen_N], before_N[chosen_N]
                log_w_N = np.zeros(config.n)
        return Found(particles, np.log(shares(log_w_N)).tolist())

    return rule
