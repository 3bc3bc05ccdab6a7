"""The entropy-regularized process reward of a step (arXiv 2412.11006) and its conversions, in floats.

A prefix of a solution ends with a step. The rewards r_1 .. r_K of K completions of the prefix give the label

    v = ln(mean_k e^(eta r_k)) / eta                                                    (ER)

The limits are the mean at eta = 0 (the "soft" label), the maximum at inf (the "hard" label of Math-Shepherd)
and the minimum at -inf. If all rewards are 0 or 1, only the success rate p = wins/K matters:

    f_eta(p) = ln(1 + p (e^eta - 1)) / eta,  strictly increasing in p, with f(0) = 0 and f(1) = 1
"""

from collections.abc import Sequence
from math import comb, exp, expm1, fsum, inf, isfinite, isinf, isnan, log, log1p, sqrt

# The estimators with an eta of their own, as in --estimator and the field `estimator`. "er" is any other eta.
NAMED_ETAS = {"soft": 0.0, "hard": inf, "min": -inf}

HUGE = 2.0**900  # larger rewards are scaled down, so that no sum or difference overflows
NEGLIGIBLE = 1e-17  # bound of |eta| (max - min): v differs from the mean by less than a rounding error


def entropy_regularized(rewards: Sequence[float], eta: float) -> float:
    """Return v = ln(mean_k e^(eta r_k)) / eta: the mean at eta = 0, the maximum at inf, the minimum at -inf.

    v is between the smallest and the largest reward. It increases with eta and with each reward. No eta
    overflows, because only differences of rewards are exponentiated. Raises ValueError if `rewards` is empty,
    if a reward is not finite, or if eta is NaN.

    >>> round(entropy_regularized([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], eta=1), 3)
    0.102
    >>> entropy_regularized([0, 1, 1, 1], eta=0)
    0.75
    >>> entropy_regularized([0, 1, 1, 1], eta=-inf)
    0.0
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
    return min(max(value, low), high) + 0.0  # rounding cannot leave the bounds; + 0.0 turns -0.0 into 0.0


def _log_mean_exp(rewards: Sequence[float], eta: float, low: float, high: float) -> float:
    """Return (ER) for 0 < |eta| < inf: v = base + ln(mean_k e^(eta (r_k - base))) / eta, for any base."""
    largest_term = high if eta > 0 else low
    if abs(eta) * (high - low) > 1:
        base = largest_term  # exponents <= 0: no overflow, and at least one term is 1
        return base + log(fsum(exp(eta * (reward - base)) for reward in rewards) / len(rewards)) / eta
    base = low if eta > 0 else high  # small exponents: expm1 and log1p keep every digit
    return base + log1p(fsum(expm1(eta * (reward - base)) for reward in rewards) / len(rewards)) / eta


def label_of_rate(rate: float, eta: float) -> float:
    """Return f_eta(p) = ln(1 + p (e^eta - 1)) / eta, the label of a prefix with success rate p = `rate`.

    The label is in [0, 1]. At eta = 0 it is p. At eta = inf it is 0 for p = 0 and otherwise 1; at eta = -inf
    it is 1 for p = 1 and otherwise 0. Raises ValueError if the rate is outside [0, 1].

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
    """Return p = (e^(eta v) - 1) / (e^eta - 1), the success rate of label v: the inverse of f_eta.

    The rate is in [0, 1]. At eta = 0 it equals v; at a large eta it may underflow to 0. Raises ValueError if
    the label is outside [0, 1], or if eta is infinite, because such a label does not tell the rate.

    >>> round(rate_of_label(0.7168904, eta=2), 6)
    0.5
    """
    _check_label(label, eta)
    return float(label) if label in (0, 1) or eta == 0 else exp(_to_logs(label, eta)[0])


def relabel(label: float, eta: float, to: float) -> float:
    """Return f_to(f_eta^-1(v)): a label at `eta` converted to the label at `to`, without new rollouts.

    It is exact if all rewards are 0 or 1. Both labels are in [0, 1]. `to` may be infinite. The rate in
    between is kept as a logarithm, because it can be too small for a float. Raises ValueError as
    `rate_of_label` does.

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
    """Return f_eta(p) from ln p and ln q, where q = 1 - p, 0 < p < 1 and eta is finite."""
    if eta < 0:
        return max(0.0, 1 - _from_logs(log_q, log_p, -eta))  # f_-eta(p) = 1 - f_eta(1 - p)
    if eta < NEGLIGIBLE:
        return exp(log_p)
    if eta <= 1:
        return min(1.0, log1p(exp(log_p) * expm1(eta)) / eta)
    rest = log_q - eta  # v = 1 + ln(p + q e^-eta) / eta
    larger, smaller = max(log_p, rest), min(log_p, rest)
    return min(1.0, max(0.0, 1 + (larger + log1p(exp(smaller - larger))) / eta))


def _to_logs(label: float, eta: float) -> tuple[float, float]:
    """Return ln p and ln(1 - p) for p = f_eta^-1(label), where 0 < label < 1 and eta is finite."""
    size = abs(eta)
    if size < NEGLIGIBLE:
        return log(label), log1p(-label)

    def log_share(part: float) -> float:  # ln((1 - e^(-size part)) / (1 - e^(-size)))
        if size * part < NEGLIGIBLE:  # the product may underflow, but its logarithm does not
            return log(part) + log(size / -expm1(-size))
        return log(expm1(-size * part) / expm1(-size))

    log_p, log_q = log_share(label), log_share(1 - label)
    if eta > 0:
        log_p -= size * (1 - label)
    else:
        log_q -= size * label
    return min(0.0, log_p), min(0.0, log_q)


def estimator_error(rate: float, k: int, eta: float) -> tuple[float, float]:
    """Return the bias E[v] - f_eta(p) and the standard deviation of a label v from `k` rollouts.

    Rewards are 0 or 1, and p = `rate` is the true success rate, in [0, 1]. Both are exact sums over the
    binomial distribution of the wins: v = f_eta(wins / k). The bias is 0 at eta = 0 and at most 0 at eta > 0.

    >>> [round(x, 4) for x in estimator_error(0.25, k=16, eta=1)]
    [-0.0085, 0.1302]
    """
    weights = [comb(k, wins) * rate**wins * (1 - rate) ** (k - wins) for wins in range(k + 1)]
    values = [label_of_rate(wins / k, eta) for wins in range(k + 1)]
    mean = fsum(weight * value for weight, value in zip(weights, values, strict=True))
    variance = fsum(weight * (value - mean) ** 2 for weight, value in zip(weights, values, strict=True))
    return mean - label_of_rate(rate, eta), sqrt(variance)


def estimator_name(eta: float) -> str:
    """Return the field `estimator` for `eta`: soft, hard or min at 0, inf or -inf, and er at any other eta.

    >>> estimator_name(0), estimator_name(2)
    ('soft', 'er')
    """
    return next((name for name, value in NAMED_ETAS.items() if value == eta), "er")


def eta_in_row(eta: float) -> float | None:
    """Return the field `eta`: the number, or None (null) if it is infinite, because JSON has no infinity."""
    return None if isinf(eta) else float(eta)


def estimator_fields(eta: float) -> dict[str, float | str | None]:
    """Return the fields `eta` and `estimator` of a row that is labelled at `eta`.

    >>> estimator_fields(2), estimator_fields(inf)
    ({'eta': 2.0, 'estimator': 'er'}, {'eta': None, 'estimator': 'hard'})
    """
    return {"eta": eta_in_row(eta), "estimator": estimator_name(eta)}


def eta_of_row(eta: float | None, estimator: str) -> float:
    """Return eta from the fields `eta` and `estimator` of a row: the inverse of `eta_in_row`.

    ValueError if `eta` is null and the estimator is not soft, hard or min.

    >>> eta_of_row(None, "hard")
    inf
    """
    if eta is not None:
        return float(eta)
    if estimator not in NAMED_ETAS:
        raise ValueError(f"eta is null, but the estimator {estimator!r} has no eta of its own")
    return NAMED_ETAS[estimator]
