"""What best-of-n, votes and pass@n reach for every n: the figures of `erprm bon`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from erprm_cli.answers.grader import Grader
from erprm_cli.evaluation.candidates import Candidates, Graded, ScoreTable, prm_names
from erprm_cli.evaluation.estimates import Floats, best_of_n, pass_at_n, votes_at_n
from erprm_cli.evaluation.intervals import Estimate, mean_over_problems, paired_difference
from erprm_cli.hashing import derive_seed
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter

MAJORITY, WEIGHTED, BEST, PASS, PASS_1 = "majority vote", "weighted vote", "best of n", "pass@n", "pass@1"
BUDGETS = (1, 4, 8, 16, 32, 64)


def default_budgets(sizes: Iterable[int]) -> list[int]:
    """Return `BUDGETS` up to the largest number of candidates, and that number if all problems have it."""
    sizes = set(sizes)
    return sorted({n for n in BUDGETS if n <= max(sizes)} | (sizes if len(sizes) == 1 else set()))


@dataclass(frozen=True, slots=True)
class Figure:
    """One number: how often a way of choosing among n candidates is correct, or with `minus` by how much
    that is more often with `prm` than with the PRM `minus`."""

    prm: str | None
    minus: str | None
    method: str
    aggregate: str | None
    n: int
    estimate: Estimate

    def row(self) -> Row:
        """Return the figure as a row for --report."""
        estimate = self.estimate
        return {
            "prm": self.prm,
            "minus": self.minus,
            "method": self.method,
            "aggregate": self.aggregate,
            "n": self.n,
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "p": estimate.p,
            "problems": estimate.problems,
        }


def evaluate(
    pool: Candidates, compared: Sequence[ScoreTable], budgets: Sequence[int], seed: int, reporter: Reporter
) -> list[Figure]:
    """Return the figures of all candidates, scored by their PRM and by those `compared`; see `judge`.

    Without `budgets` these are `default_budgets`. A problem without rewards, or an n without problems, is
    left out with a warning; if no problem has rewards, there are no figures.
    """
    graded = []
    with Grader() as grader:  # the answers that vote together are those that it grades as equal
        for problem in pool.graded(compared, grader):
            graded.append(problem)
            reporter.progress(len(graded), "problems", len(pool.problems), "grouping answers")
    if without := len(pool.problems) - len(graded):
        reporter.warn(
            f"{without:,} problems are left out because 'reward' is missing; `erprm sample` writes it"
        )
    if not graded:
        return []
    budgets = budgets or default_budgets(len(problem.correct_N) for problem in graded)
    tables = [pool.table, *compared]
    figures = judge(graded, prm_names(tables), pool.table.aggregates, budgets, seed)
    for n in sorted(set(budgets) - {figure.n for figure in figures}):
        reporter.warn(f"no problem has {n:,} candidates, so there is no result for that n")
    return figures


def judge(
    problems: Sequence[Graded],
    prms: Sequence[str],
    aggregates: Sequence[str],
    budgets: Sequence[int],
    seed: int = 0,
) -> list[Figure]:
    """Return all figures: of the policy, of each PRM and aggregate, and of the first PRM minus each other.

    A figure for n rests on the problems with at least n candidates; an n that none has gives no figure.
    Differences are of votes and best-of-n at the largest n, and their p-values are not corrected for being
    many. The order of the problems does not matter.
    """
    budgets = sorted({n for n in budgets if any(len(problem.correct_N) >= n for problem in problems)})
    pass_1 = mean_over_problems([problem.correct_N.mean() for problem in problems])
    figures = [Figure(None, None, PASS_1, None, 1, pass_1)]
    if not budgets:
        return figures
    votes = any((problem.class_N >= 0).any() for problem in problems)
    curves = _curves(problems, len(prms), len(aggregates), budgets, votes, seed)

    def add(values_PB: Floats, method: str, prm: str | None = None, aggregate: str | None = None) -> None:
        for n, value_P in zip(budgets, values_PB.T, strict=True):
            estimate = mean_over_problems(value_P[~np.isnan(value_P)])
            figures.append(Figure(prm, None, method, aggregate, n, estimate))

    # A score below 0, as a model of whole solutions may give, is no weight of a vote.
    weights = votes and all((problem.score_KAN >= 0).all() for problem in problems)
    chosen = [(WEIGHTED, curves.weighted_PKAB)] * weights + [(BEST, curves.best_PKAB)]
    if votes:
        add(curves.majority_PB, MAJORITY)
    for method, value_PKAB in chosen:
        for k, prm in enumerate(prms):
            for a, name in enumerate(aggregates):
                add(value_PKAB[:, k, a], method, prm, name)
    add(curves.pass_PB, PASS)
    for method, value_PKAB in chosen:
        for k, other in enumerate(prms[1:], start=1):
            for a, name in enumerate(aggregates):
                ours, theirs = value_PKAB[:, 0, a, -1], value_PKAB[:, k, a, -1]
                there = ~np.isnan(ours)
                difference = paired_difference(ours[there], theirs[there], seed)
                figures.append(Figure(prms[0], other, method, name, budgets[-1], difference))
    return figures


class _Curves(NamedTuple):
    """The value of each way of choosing, per problem and n; NaN where a problem has fewer candidates."""

    best_PKAB: Floats
    weighted_PKAB: Floats
    majority_PB: Floats
    pass_PB: Floats


def _curves(
    problems: Sequence[Graded], k: int, a: int, budgets: Sequence[int], votes: bool, seed: int
) -> _Curves:
    shape = (len(problems), k, a, len(budgets))
    best, weighted = np.full(shape, np.nan), np.full(shape, np.nan)
    majority, passed = best[:, 0, 0].copy(), best[:, 0, 0].copy()
    sizes = [len(problem.correct_N) for problem in problems]
    for size in sorted(set(sizes)):
        members = [p for p, other in enumerate(sizes) if other == size]
        fitting = [n for n in budgets if n <= size]
        score_PKAN = np.stack([problems[p].score_KAN for p in members])
        correct_PN = np.stack([problems[p].correct_N for p in members])
        best[members, ..., : len(fitting)] = best_of_n(score_PKAN, correct_PN[:, None, None], fitting)
        passed[members, : len(fitting)] = pass_at_n(correct_PN, fitting)
        for p in members if votes else ():
            problem = problems[p]
            weight_MN = np.concatenate([np.ones((1, size)), problem.score_KAN.reshape(-1, size)])
            rng = np.random.default_rng(derive_seed(seed, "votes", problem.id))
            vote_MB = votes_at_n(weight_MN, problem.correct_N, problem.class_N, fitting, rng)
            majority[p, : len(fitting)] = vote_MB[0]
            weighted[p, ..., : len(fitting)] = vote_MB[1:].reshape(k, a, -1)
    return _Curves(best, weighted, majority, passed)
