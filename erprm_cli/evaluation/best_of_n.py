"""Best-of-n: how often the candidate with the highest score is correct, for every n, beside votes and pass@n.

Ties: of candidates with equal scores, `erprm bon` chooses the one that comes first in its input
(`candidates.Candidates.add`). The estimate for n candidates, over all subsets of n, has no such order; it is
the expectation over a random order of the tied candidates (`best_of_n`).

Shapes: P problems, N candidates and S different solutions of one problem, K reward models, A aggregates,
B budgets (values of n), M kinds of weight.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from erprm_cli.answers.grader import Grader
from erprm_cli.answers.voting import MAX_VOTE_CLASSES, MAX_VOTE_PAIRS
from erprm_cli.evaluation.arrays import Floats
from erprm_cli.evaluation.candidates import MAJORITY, Candidates, GradedProblem, ScoreTable, prm_names
from erprm_cli.evaluation.estimates import pass_at_n, votes_at_n
from erprm_cli.evaluation.intervals import Estimate, mean_over_problems, paired_difference
from erprm_cli.hashing import derive_seed
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter

WEIGHTED, BEST, PASS, PASS_1 = "weighted vote", "best of n", "pass@n", "pass@1"
METHODS = (WEIGHTED, BEST, MAJORITY, PASS_1, PASS)  # as tables list them: first what is best to use
BUDGETS = (1, 4, 8, 16, 32, 64)


def best_of_n(scores: ArrayLike, correct: ArrayLike, budgets: Sequence[int]) -> Floats:
    """Return [..., B], how often the candidate with the highest score among n random ones is correct.

    `scores` is [..., N]; `correct` (booleans or numbers) broadcasts to it. The mean over all subsets of n is
    exact, because only the rank of each candidate matters (`rank_weights`). Tied candidates take their places
    in a random order, so each counts with the mean correctness of its tie.

    >>> best_of_n([0.1, 0.9, 0.5], [0, 1, 0], [1, 2, 3]).round(4).tolist()
    [0.3333, 0.6667, 1.0]
    """
    score = np.asarray(scores, dtype=np.float64)
    right = np.broadcast_to(np.asarray(correct, dtype=np.float64), score.shape)
    order = score.argsort(axis=-1)
    score = np.take_along_axis(score, order, -1)
    right = np.take_along_axis(right, order, -1)
    is_new = np.ones(score.shape, dtype=bool)
    is_new[..., 1:] = score[..., 1:] != score[..., :-1]
    tie = is_new.ravel().cumsum() - 1  # number of each candidate's tie; its members are chosen equally often
    right = (np.bincount(tie, right.ravel()) / np.bincount(tie))[tie].reshape(score.shape)
    weight_BN = np.array([rank_weights(score.shape[-1], n) for n in budgets])
    return np.asarray(right @ weight_BN.T)


def rank_weights(num_candidates: int, n: int) -> Floats:
    """Return [N], for each rank r = 1 .. N the probability that it is the highest in a random subset of n.

    It is C(r - 1, n - 1) / C(N, n), computed from the ratios of neighbours so that nothing overflows. Raises
    ValueError unless 1 <= n <= N.

    >>> rank_weights(4, 2).round(4).tolist()
    [0.0, 0.1667, 0.3333, 0.5]
    """
    if not 1 <= n <= num_candidates:
        raise ValueError(f"n is {n}, outside 1 .. {num_candidates}")
    rank = np.arange(num_candidates - 1, 0, -1)
    falling = np.cumprod(np.concatenate([[n / num_candidates], np.maximum(rank - n + 1, 0) / rank]))
    return falling[::-1]


def exact_best_of_n(
    probabilities: ArrayLike, scores: ArrayLike, rewards: ArrayLike, budgets: Sequence[int]
) -> Floats:
    """Return [B], the expected reward of the best of n draws from solutions of known probabilities, all [S].

    With F(s) the probability of a score of at most s, the best of n draws has the score s with the
    probability F(s)^n - F(s-)^n, and is then one of the solutions with this score.

    >>> exact_best_of_n([0.5, 0.5], [0.1, 0.9], [0, 1], [1, 2, 3]).tolist()
    [0.5, 0.75, 0.875]
    """
    tie_S = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)[1]
    mass = np.bincount(tie_S, probabilities)
    right = np.bincount(tie_S, np.asarray(probabilities) * np.asarray(rewards)) / mass
    below = np.concatenate([[0.0], np.minimum(np.cumsum(mass), 1.0)])
    return np.array([((below[1:] ** n - below[:-1] ** n) * right).sum() for n in budgets])


def default_budgets(sizes: Iterable[int]) -> list[int]:
    """Return the BUDGETS up to the largest of `sizes`, and that one too if all problems have it."""
    sizes = set(sizes)
    return sorted({n for n in BUDGETS if n <= max(sizes)} | (sizes if len(sizes) == 1 else set()))


@dataclass(frozen=True, slots=True)
class BestOfNResult:
    """The accuracy of one method of choosing among n candidates.

    With `minus`, it is the difference of the accuracies with the PRMs `prm` and `minus`.
    """

    prm: str | None  # None for methods without a PRM
    minus: str | None
    method: str  # one of METHODS
    aggregate: str | None
    n: int
    estimate: Estimate

    def row(self) -> Row:
        """Return the result as a row for --report."""
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
    pool: Candidates,
    compared: Sequence[ScoreTable],
    budgets: Sequence[int],
    seed: int,
    grader: Grader,
    reporter: Reporter,
) -> list[BestOfNResult]:
    """Return the results of all candidates, scored by their PRM and by those in `compared`.

    Candidates without scores have results without a PRM only: pass@1, majority vote and pass@n. Answers that
    `grader` finds equal vote together. Without `budgets` they are `default_budgets`. A problem with missing
    rewards, or an n that no problem reaches, is left out with a warning; if no problem has all its rewards,
    there are no results.
    """
    graded = []
    reporter.start("problems", total=len(pool.problems))
    for problem in pool.graded(compared, grader):
        graded.append(problem)
        reporter.progress(len(graded), "problems", len(pool.problems), "grouping answers")
    if without := len(pool.problems) - len(graded):
        reporter.warn(
            f"{without:,} problems are left out because 'reward' is missing; `erprm grade` writes it"
        )
    if not graded:
        return []
    budgets = budgets or default_budgets(len(problem.correct_N) for problem in graded)
    prms = prm_names([pool.table, *compared]) if pool.scored else []
    results = compute_results(graded, prms, pool.table.aggregates, budgets, seed)
    if partly := len(pool.partly_compared):
        reporter.info(
            f"votes: {partly:,} problems have more different answers than are compared by value "
            f"({MAX_VOTE_CLASSES} answers, {MAX_VOTE_PAIRS} pairs of formulas); others are compared as text"
        )
    if note := tie_note(graded):
        reporter.info(note)
    for n in sorted(set(budgets) - {result.n for result in results}):
        reporter.warn(f"no problem has {n:,} candidates, so there is no result for that n")
    return results


def tie_note(problems: Sequence[GradedProblem]) -> str:
    """Return how the chosen rows differ from the table where candidates share the first place.

    Empty if no problem has correct and wrong ones there. Without scores, answers are tied by their votes.
    """
    num_tied, num_right = 0, 0
    for _, score_KAN, correct_N, class_N in problems:
        if len(score_KAN):
            first = np.flatnonzero(score_KAN[0, 0] == score_KAN[0, 0].max())
        else:
            votes_G = np.bincount(class_N[class_N >= 0], minlength=1)
            top_G = np.flatnonzero(votes_G == votes_G.max())
            first = np.array([np.flatnonzero(class_N == g)[0] if votes_G.any() else 0 for g in top_G])
        num_tied += bool(correct_N[first].min() < correct_N[first].max())
        num_right += bool(correct_N[first[0]])
    if not num_tied:
        return ""
    return (
        f"ties: in {num_tied:,} of {len(problems):,} problems, correct and wrong candidates share the first "
        f"place; rows have the first of them ({num_right / len(problems):.1%} correct)"
    )


def compute_results(
    problems: Sequence[GradedProblem],
    prms: Sequence[str],
    aggregates: Sequence[str],
    budgets: Sequence[int],
    seed: int = 0,
) -> list[BestOfNResult]:
    """Return the results of the policy, of each PRM and aggregate, and of the first PRM minus each other one.

    A result for n covers the problems with at least n candidates; an n that no problem reaches has no result.
    Differences are given for weighted votes and best-of-n at the largest n; their p-values are not corrected
    for multiple comparisons. The order of the problems does not matter.
    """
    budgets = sorted({n for n in budgets if any(len(problem.correct_N) >= n for problem in problems)})
    pass_1 = mean_over_problems([problem.correct_N.mean() for problem in problems])
    results = [BestOfNResult(None, None, PASS_1, None, 1, pass_1)]
    if not budgets:
        return results
    votes = any((problem.class_N >= 0).any() for problem in problems)
    curves = accuracies(problems, len(prms), len(aggregates), budgets, votes, seed)

    def add(values_PB: Floats, method: str, prm: str | None = None, aggregate: str | None = None) -> None:
        for n, value_P in zip(budgets, values_PB.T, strict=True):
            estimate = mean_over_problems(value_P[~np.isnan(value_P)])
            results.append(BestOfNResult(prm, None, method, aggregate, n, estimate))

    # Negative scores, which models of whole solutions may give, cannot be weights of votes.
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
                defined = ~np.isnan(ours)
                difference = paired_difference(ours[defined], theirs[defined], seed)
                results.append(BestOfNResult(prms[0], other, method, name, budgets[-1], difference))
    return results


class Accuracies(NamedTuple):
    """The accuracy of each method per problem and n; NaN where a problem has fewer than n candidates."""

    best_PKAB: Floats
    weighted_PKAB: Floats
    majority_PB: Floats
    pass_PB: Floats


def accuracies(
    problems: Sequence[GradedProblem], k: int, a: int, budgets: Sequence[int], votes: bool, seed: int
) -> Accuracies:
    """Return the accuracies by the scores of `k` models and `a` aggregates; of votes only with `votes`."""
    shape = (len(problems), k, a, len(budgets))
    best, weighted = np.full(shape, np.nan), np.full(shape, np.nan)
    majority, passed = (np.full((len(problems), len(budgets)), np.nan) for _ in range(2))
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
            weighted[p, ..., : len(fitting)] = vote_MB[1:].reshape(k, a, len(fitting))
    return Accuracies(best, weighted, majority, passed)
