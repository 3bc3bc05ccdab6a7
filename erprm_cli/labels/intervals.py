"""Intervals of labels: how well K rollouts determine the label of a step.

With m successes among k rollouts and Jeffreys' prior, the success rate has the posterior

    p | m, k  ~  Beta(m + 1/2, k - m + 1/2)

and its 95 % interval is between the quantiles of 0.025 and 0.975, except that it begins at 0 for m = 0 and
ends at 1 for m = k, so that it always contains m/k (Brown, Cai and DasGupta 2001, Statistical Science 16).
f_eta increases with p, so the ends of the label's interval are the labels of these ends: exactly, for every
eta. The hard label (eta = inf) is thus 1 for certain once there was a success, else between 0 and 1.
"""

from collections.abc import Sequence
from functools import cache
from math import exp, lgamma, log, log1p

from erprm_cli.errors import RowError
from erprm_cli.labels.estimator import label_of_rate

TAIL = 0.025  # of the posterior, on each side
PRECISION = 1e-17  # of the incomplete beta function
MAX_TRIALS = 1_000_000  # of one step, which take up to a second

Interval = tuple[float, float]  # low, high


@cache
def rate_interval(wins: int, k: int) -> Interval:
    """Return the 95 % interval of the success rate after `wins` successes in `k` rollouts, k > 0.

    >>> [round(end, 4) for end in rate_interval(4, 16)], [round(end, 4) for end in rate_interval(0, 4)]
    ([0.0908, 0.4907], [0.0, 0.4448])
    """
    return _low(wins, k), 1 - _low(k - wins, k)  # Beta(a, b) is the mirror image of Beta(b, a)


def label_interval(wins: int, k: int, eta: float) -> Interval:
    """Return the 95 % interval of the label at `eta`, any float but NaN. RowError beyond MAX_TRIALS.

    >>> [round(end, 4) for end in label_interval(4, 16, eta=2)]
    [0.2288, 0.7098]
    """
    if k > MAX_TRIALS:
        raise RowError(f"a step has {k:,} trials; intervals are computed for at most {MAX_TRIALS:,}")
    low, high = rate_interval(wins, k)
    return label_of_rate(low, eta), label_of_rate(high, eta)


def label_intervals(rollouts: Sequence[Sequence[float] | None], eta: float) -> list[Interval | None]:
    """Return the interval of the label of each step; None for a step without rollouts.

    The last step has one reward, its outcome: its label is certain. Raises RowError for rewards other than 0
    and 1, whose mean has no such interval.
    """
    last = len(rollouts) - 1
    found: list[Interval | None] = []
    for step, rewards in enumerate(rollouts):
        if rewards is None:
            found.append(None)
        elif any(reward not in (0, 1) for reward in rewards):
            raise RowError(
                "'rollouts' has rewards other than 0 and 1, whose labels have no interval; label them "
                "without --intervals"
            )
        elif step == last and len(rewards) == 1:
            found.append((float(rewards[0]), float(rewards[0])))
        else:
            found.append(label_interval(int(sum(rewards)), len(rewards), eta))
    return found


@cache
def _low(wins: int, k: int) -> float:
    """Return the lower end: where the posterior has TAIL below it, found by bisection."""
    if wins == 0:
        return 0.0
    a, b = wins + 0.5, k - wins + 0.5
    low, high = 0.0, a / (a + b)  # the mean, above which is much more than TAIL
    while low < (middle := (low + high) / 2) < high:
        is_lower_part = (1 - middle) ** 2 * k > 1  # its series has about 1 / (1 - middle) terms, or sqrt(k)
        below = _beta_share(middle, a, b) if is_lower_part else 1 - _beta_share(1 - middle, b, a)
        low, high = (middle, high) if below < TAIL else (low, middle)
    return middle


def _beta_share(x: float, a: float, b: float) -> float:
    """Return the probability of [0, x] under Beta(a, b), for 0 < x < 1, by DLMF 8.17.8.

    All terms of the series are positive, so that nothing cancels. mpmath's betainc loses half of its digits
    here in floats and does not converge for k = 100,000.
    """
    log_front = a * log(x) + b * log1p(-x) - log(a) - (lgamma(a) + lgamma(b) - lgamma(a + b))
    total = term = 1.0
    n = 0
    while term > total * PRECISION:
        term *= (a + b + n) / (a + 1 + n) * x
        total += term
        n += 1
    return exp(log_front + log(total))
