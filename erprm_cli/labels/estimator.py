"""The entropy-regularized process reward (arXiv 2412.11006) and its relatives. Plain floats.

With rewards r_1 .. r_K of K completions of a prefix,

    v = (logsumexp_k(eta r_k) - ln K) / eta                                             (ER)

eta = 0 is the mean (the "soft" label), inf the maximum (the "hard" label of Math-Shepherd), -inf the minimum.
For rewards 0 and 1 and success rate p = k/K this is f_eta(p) = ln(1 + p (e^eta - 1)) / eta.
"""

from collections.abc import Sequence
from math import comb, exp, expm1, fsum, inf, isfinite, isinf, isnan, log, log1p, sqrt

# What --estimator and the field `estimator` may say, and the eta it stands for; "er" is every other eta.
NAMED_ETAS = {"soft": 0.0, "hard": inf, "min": -inf}

HUGE = 2.0**900  # rewards beyond it are scaled down, so that no sum or difference overflows
NEGLIGIBLE = 1e-17  # eta times the spread of the rewards: v leaves the mean by less than a rounding error


def entropy_regularized(rewards: Sequence[float], eta: float) -> float:
    """Return (ER) for any finite rewards and any eta; ValueError for no rewards, or one that is not finite.

    The value lies between the least and the greatest reward, and grows with eta and with every reward.
    It is stable at any eta: what is raised to a power is a difference, never the reward itself.

    >>> round(entropy_regularized([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], eta=1), 3)
    0.102
    >>> entropy_regularized([0, 1, 1, 1], eta=0)
    0.75
    """
    if not rewards:
        raise ValueError("no rewards")
    if isnan(eta):
        raise ValueError("eta is not a number")
    low, high = float(min(rewards)), float(max(rewards))
    if not all(map(isfinite, rewards)):
        raise ValueError("a reward is not finite")
    if max(-low, high) > HUGE:  # v is homogeneous: c v(r; c eta) = v(c r; eta)
        return entropy_regularized([reward / HUGE for reward in rewards], eta * HUGE) * HUGE
    if low == high or eta == inf:
        value = high
    elif eta == -inf:
        value = low
    elif abs(eta) * (high - low) < NEGLIGIBLE:
        value = fsum(rewards) / len(rewards)
    else:
        value = _log_mean_exp(rewards, eta, low, high)
    return min(max(value, low), high) + 0.0  # rounding stays in the bounds; + 0.0 makes a zero of -0.0


def _log_mean_exp(rewards: Sequence[float], eta: float, low: float, high: float) -> float:
    """Return (ER) for 0 < |eta| < inf. `base` is what the exponents are counted from."""
    largest_term = high if eta > 0 else low
    if abs(eta) * (high - low) > 1:
        base = largest_term  # exponents <= 0: no overflow, and at least one term is 1
        return base + log(fsum(exp(eta * (reward - base)) for reward in rewards) / len(rewards)) / eta
    base = low if eta > 0 else high  # small exponents: expm1 and log1p keep every digit
    return base + log1p(fsum(expm1(eta * (reward - base)) for reward in rewards) / len(rewards)) / eta


def label_of_rate(rate: float, eta: float) -> float:
    """Return f_eta(p), the label of a prefix that leads to a right answer with probability `rate`.

    >>> round(label_of_rate(0.5, eta=2), 4)
    0.7169
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"a rate of {rate} is outside [0, 1]")
    if rate in (0, 1) or eta == 0:
        return float(rate)
    if isinf(eta):
        return 1.0 if eta > 0 else 0.0
    return _from_logs(log(rate), log1p(-rate), eta)


def rate_of_label(label: float, eta: float) -> float:
    """Return p = (e^(eta v) - 1) / (e^eta - 1), the inverse of f_eta.

    ValueError at eta = inf and -inf, where a label does not tell the rate.

    >>> round(rate_of_label(0.7168904, eta=2), 6)
    0.5
    """
    _check_label(label, eta)
    return float(label) if label in (0, 1) or eta == 0 else exp(_to_logs(label, eta)[0])


def relabel(label: float, eta: float, to: float) -> float:
    """Return the label at eta `to` of a prefix whose label at `eta` is known, without new rollouts.

    Exact for rewards 0 and 1: f_to(f_eta^-1(v)), taken in logarithms, so that a rate too small for a float
    between two large etas does no harm.

    >>> round(relabel(0.7168904, eta=2, to=0), 6)
    0.5
    """
    _check_label(label, eta)
    if label in (0, 1) or eta == to:
        return float(label)
    if isinf(to):
        return 1.0 if to > 0 else 0.0
    return _from_logs(*_to_logs(label, eta), to)


def _check_label(label: float, eta: float) -> None:
    if not 0 <= label <= 1:
        raise ValueError(f"a label of {label} is outside [0, 1]")
    if not isfinite(eta):
        raise ValueError("a label at an infinite eta does not tell the rate")


def _from_logs(log_p: float, log_q: float, eta: float) -> float:
    """Return f_eta(p) from ln p and ln q, q = 1 - p; 0 < p < 1 and eta finite."""
    if eta < 0:
        return 1 - _from_logs(log_q, log_p, -eta)  # f_-eta(p) = 1 - f_eta(1 - p)
    if eta < NEGLIGIBLE:
        return exp(log_p)
    if eta <= 1:
        return log1p(exp(log_p) * expm1(eta)) / eta
    rest = log_q - eta  # v = 1 + ln(p + q e^-eta) / eta
    larger, smaller = max(log_p, rest), min(log_p, rest)
    return min(1.0, max(0.0, 1 + (larger + log1p(exp(smaller - larger))) / eta))


def _to_logs(label: float, eta: float) -> tuple[float, float]:
    """Return ln p and ln(1 - p) of a label; 0 < label < 1 and eta finite."""
    if eta < 0:
        log_q, log_p = _to_logs(1 - label, -eta)
        return log_p, log_q
    if eta < NEGLIGIBLE:
        return log(label), log1p(-label)
    whole = expm1(-eta)
    log_p = eta * (label - 1) + log(expm1(-eta * label) / whole)
    return min(0.0, log_p), min(0.0, log(expm1(-eta * (1 - label)) / whole))


def estimator_error(rate: float, k: int, eta: float) -> tuple[float, float]:
    """Return the bias and the standard deviation of the label from `k` rollouts, rewards 0 and 1.

    Exact sums over the binomial distribution of the number of successes; `rate` is the true probability.

    >>> [round(x, 4) for x in estimator_error(0.25, k=16, eta=1)]
    [-0.0085, 0.1302]
    """
    weights = [comb(k, wins) * rate**wins * (1 - rate) ** (k - wins) for wins in range(k + 1)]
    values = [label_of_rate(wins / k, eta) for wins in range(k + 1)]
    mean = fsum(weight * value for weight, value in zip(weights, values, strict=True))
    variance = fsum(weight * (value - mean) ** 2 for weight, value in zip(weights, values, strict=True))
    return mean - label_of_rate(rate, eta), sqrt(variance)


def estimator_name(eta: float) -> str:
    """Return what rows call the estimator at `eta`: soft, hard, min, or er for every other eta."""
    return next((name for name, value in NAMED_ETAS.items() if value == eta), "er")


def eta_in_row(eta: float) -> float | None:
    """Return what the field `eta` says: the number, or null where it is infinite: JSON has no inf."""
    return None if isinf(eta) else float(eta)


def eta_of_row(eta: float | None, estimator: str) -> float:
    """Return the eta that the fields `eta` and `estimator` of a row stand for; ValueError if none.

    >>> eta_of_row(None, "hard")
    inf
    """
    if eta is not None:
        return float(eta)
    if estimator not in NAMED_ETAS:
        raise ValueError(f"eta is null, but the estimator {estimator!r} has no eta of its own")
    return NAMED_ETAS[estimator]
