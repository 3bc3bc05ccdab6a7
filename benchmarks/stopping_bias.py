"""How much a stopping rule biases the average of rewards: the table of docs/budgets.md.

    python benchmarks/stopping_bias.py

E[m/k] - p by exact sums over all outcomes of the rounds. The counts m and k themselves have the likelihood
p^m (1 - p)^(k - m) whatever the rule, so that a model trained on counts is not biased.
"""

import random
from math import comb, inf, sqrt
from statistics import fmean, stdev

from erprm_cli.policy.stopping import StoppingRule

RULES = {
    "--until-width 0.67": StoppingRule(0.67),
    "--until-width 0.45": StoppingRule(0.45),
    "--until-width 0.3": StoppingRule(0.3),
    "--until-width 0.3 --for-eta 2": StoppingRule(0.3, 2.0),
    "--for hard": StoppingRule(1.0, inf),
}
RATES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95)
K = 16


def outcomes(rule: StoppingRule, k: int, rate: float) -> dict[tuple[int, int], float]:
    """Return the probability of each (m, k) at which a step with success rate `rate` stops."""
    stopped: dict[tuple[int, int], float] = {}
    going, before = {0: 1.0}, 0  # the probability of m successes so far
    for count in rule.rounds(k):
        more, later = count - before, dict[int, float]()
        for wins, probability in going.items():
            for new in range(more + 1):
                share = comb(more, new) * rate**new * (1 - rate) ** (more - new)
                later[wins + new] = later.get(wins + new, 0.0) + probability * share
        ended = {wins for wins in later if count == k or rule.is_enough(wins, count)}
        stopped |= {(wins, count): later[wins] for wins in ended}
        going, before = {wins: share for wins, share in later.items() if wins not in ended}, count
    return stopped


def bias(rule: StoppingRule, k: int, rate: float) -> float:
    """Return E[m/k] - p."""
    return sum(share * wins / count for (wins, count), share in outcomes(rule, k, rate).items()) - rate


def completions(rule: StoppingRule, k: int, rate: float) -> float:
    """Return the expected number of completions."""
    return sum(share * count for (_, count), share in outcomes(rule, k, rate).items())


def simulated_bias(rule: StoppingRule, k: int, rate: float, trials: int) -> tuple[float, float]:
    """Return the bias of an average in `trials` simulated steps, and its standard error."""
    draw = random.Random(0)
    errors = []
    for _ in range(trials):
        rewards = [float(draw.random() < rate) for _ in range(k)]
        errors.append(fmean(rewards[: rule.needed(k, rewards)]) - rate)
    return fmean(errors), stdev(errors) / sqrt(trials)


def main() -> None:
    print("| rule | " + " | ".join(f"p = {rate:g}" for rate in RATES) + " |")
    print("|---" * (len(RATES) + 1) + "|")
    for name, rule in RULES.items():
        cells = [f"{bias(rule, K, rate):+.3f} ({completions(rule, K, rate):.1f})" for rate in RATES]
        print(f"| `{name}` | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
