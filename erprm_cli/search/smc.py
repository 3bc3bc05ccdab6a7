"""Twisted sequential Monte Carlo: samples from the paper's optimal policy.

The policy that maximises E[r] - KL(pi || pi0) / eta is pi*(a) = pi0(a) e^(eta r(a)) / Z (arXiv 2412.11006,
section 3.1). The process reward v_l = ln E[e^(eta r) | first l steps] / eta makes e^(eta v_l) the optimal
twist of a sampler of pi* (arXiv 2404.17546): N particles grow by one step of pi0 at a time, with the weights

    w_i *= e^(eta (v_l(i) - v_l-1(i)))

and are resampled when their effective sample size falls below a share of N. The value v_0 of the empty prefix
cancels, and is 0 here: Z-hat = e^(eta v_0) times the mean weight. It is an unbiased estimate of Z for any
twist, if the last value of a solution is its reward. If that is the PRM's last score, the samples are those
of pi0 e^(eta score).

N particles
"""

import numpy as np

from erprm_cli.search.config import SearchConfig
from erprm_cli.search.prefix import Extension, Found, Prefix, Random, Search, Value
from erprm_cli.search.weights import effective_sample_size, log_mean_exp, shares, systematic


def smc(config: SearchConfig, value: Value, random: Random) -> Search:
    """Yield the next step of every unfinished particle; return the particles with their weights.

    `value` is v of a prefix, and of a finished solution its reward. With `config.draws`, that many draws from
    the weighted particles are returned, with equal weights.
    """
    particles = [Prefix()] * config.n
    value_N, log_w_N = np.zeros(config.n), np.zeros(config.n)
    resamplings = 0
    while growing := [i for i, particle in enumerate(particles) if not particle.is_finished]:
        for i, prefix in zip(growing, (yield [Extension(particles[i], i) for i in growing]), strict=True):
            particles[i] = prefix
            before, value_N[i] = value_N[i], value(prefix)
            log_w_N[i] += config.eta * (value_N[i] - before)
        # Resampling after the last step would add variance and change nothing else.
        goes_on = not all(particle.is_finished for particle in particles)
        if goes_on and effective_sample_size(log_w_N) < config.ess_threshold * config.n:
            chosen_N = systematic(log_w_N, config.n, random)
            particles, value_N = [particles[i] for i in chosen_N], value_N[chosen_N]
            log_w_N = np.full(config.n, log_mean_exp(log_w_N))
            resamplings += 1
    ess, log_z = effective_sample_size(log_w_N), log_mean_exp(log_w_N)
    if config.draws:
        particles = [particles[i] for i in systematic(log_w_N, config.draws, random)]
        log_w_N = np.zeros(config.draws)
    return Found(particles, np.log(shares(log_w_N)).tolist(), ess, resamplings, log_z)
