"""How to divide a budget of tokens between solutions and rollouts, from a pilot: rows that have rollouts.

A solution costs S tokens to sample and D K T to roll out, with D distinct prefixes and T tokens for each of K
completions. The labels of prefixes differ by the variance b, and each is an average of K rewards with the
variance w. What B tokens teach grows with the number of solutions and shrinks with the noise of a label:

    N = B / (S + D K T)    maximize over K    N / (b + w / K)

This is the optimum of two-stage sampling, K = sqrt((w / b) (S / (D T))) (Cochran 1977, Sampling Techniques,
section 10.6), among powers of two. K = 1 is not proposed: one rollout does not tell noise from difference.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import fsum
from statistics import fmean, pvariance

from erprm_cli.errors import RowError, UserError
from erprm_cli.hashing import content_hash
from erprm_cli.policy.reasoning import Marks, written, written_prefixes
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row

CHOICES_OF_K = (2, 4, 8, 16, 32, 64)
LEAST_VARIANCE = 1e-3  # between prefixes: a pilot of few prefixes may show none


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a pilot tells of one solution: costs in generated tokens, and variances of rewards."""

    solutions: int
    solution_tokens: float  # S
    distinct_prefixes: float  # D, per solution
    completion_tokens: float  # T
    variance_between: float  # b
    variance_within: float  # w

    def cost(self, k: int) -> float:
        """Return the tokens of one solution with its rollouts."""
        return self.solution_tokens + self.distinct_prefixes * k * self.completion_tokens

    def information(self, k: int) -> float:
        """Return how much a token teaches with `k` completions; only ratios have a meaning."""
        return 1 / (self.cost(k) * (self.variance_between + self.variance_within / k))


def check_pilot(row: Row) -> Row:
    """Check a row with rollouts and with the length of its solution in tokens."""
    schema.check_rollouts(schema.check_solution(row))
    if not schema.need(row, "num_tokens", int):
        raise RowError("'num_tokens' is 0, so the length of completions cannot be estimated")
    return row


def measure(rows: Iterable[Row], marks: Marks | None = None) -> Pilot:
    """Return what checked rows tell. A prefix of several solutions counts once.

    A completion is as long as its text, if texts were kept, else as the rest of its solution. Raises
    UserError if no prefix has two rollouts.
    """
    seen: dict[tuple[str, str], list[float]] = {}
    solutions = solution_tokens = 0
    completion_tokens: list[float] = []
    for row in rows:
        whole = written(row, marks)
        tokens_per_character = row["num_tokens"] / max(len(whole), 1)
        solutions += 1
        solution_tokens += row["num_tokens"]
        texts = row.get("completions") or [None] * len(row["steps"])
        for prefix, rewards, kept in zip(written_prefixes(row, marks), row["rollouts"], texts, strict=False):
            key = row["id"], content_hash(prefix)
            if rewards is None or key in seen:
                continue
            seen[key] = rewards
            length = fmean(map(len, kept)) if kept else len(whole) - len(prefix)
            completion_tokens.append(tokens_per_character * length)
    several = [rewards for rewards in seen.values() if len(rewards) > 1]
    if not several:
        raise UserError(
            "the pilot has no step with two rollouts; `erprm rollout -k 4` on some solutions makes one"
        )
    noises = [_variance(rewards) for rewards in several]
    rates = [fmean(rewards) for rewards in several]
    of_means = fmean(noise / len(rewards) for noise, rewards in zip(noises, several, strict=True))
    return Pilot(
        solutions,
        solution_tokens / solutions,
        len(seen) / solutions,
        fmean(completion_tokens),
        max(pvariance(rates) - of_means, LEAST_VARIANCE),
        fmean(noises),
    )


def proposal(pilot: Pilot, budget: float) -> Row:
    """Return the best K and number of solutions for `budget` tokens, and what other K would give.

    Information is relative to the best K.
    Raises UserError if the budget pays for no solution.
    """
    best = max(CHOICES_OF_K, key=pilot.information)
    solutions = int(budget / pilot.cost(best))
    if not solutions:
        raise UserError(
            f"a budget of {budget:,.0f} tokens pays for no solution; with its rollouts, one takes about "
            f"{pilot.cost(best):,.0f} tokens"
        )
    completions = round(solutions * pilot.distinct_prefixes * best)
    made: Row = {"budget": budget, "k": best, "solutions": solutions, "completions": completions}
    about: Row = {f"pilot_{name}": round(value, 4) for name, value in asdict(pilot).items()}
    for k in CHOICES_OF_K:
        about[f"solutions_if_k_{k}"] = int(budget / pilot.cost(k))
        about[f"information_if_k_{k}"] = round(pilot.information(k) / pilot.information(best), 3)
    return made | about


def _variance(rewards: list[float]) -> float:
    """Return the unbiased estimate of the variance of a reward."""
    mean = fmean(rewards)
    return fsum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1)
