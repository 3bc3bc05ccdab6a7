"""Accuracy against tokens: the solutions of several searches, compared where they cost the same.

The cost of a solution is what the policy generated to find it. A file of `erprm sample | erprm score` holds
independent samples, so it gives the accuracy at every number of them, and so at every cost up to its own. A
file of `erprm search` gives the accuracy at one budget; files of one search at several budgets form a curve.
Between two budgets, the accuracy of each problem is interpolated linearly in the logarithm of the tokens.

Shapes: P problems, A aggregates, B budgets of one curve, V ways to choose.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from erprm_cli.answers.grader import Grader
from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.errors import RowError, UserError
from erprm_cli.evaluation.arrays import Floats
from erprm_cli.evaluation.best_of_n import BEST, WEIGHTED, accuracies, default_budgets
from erprm_cli.evaluation.candidates import (
    EVERY_ROW,
    MAJORITY,
    Candidates,
    GradedProblem,
    check_candidate,
    check_scored_candidate,
    file_label,
)
from erprm_cli.evaluation.intervals import Estimate, mean_over_problems, paired_difference
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows
from erprm_cli.rows.row import Row
from erprm_cli.rows.versions import Versions, one_version
from erprm_cli.terminal.reporter import Reporter

INDEPENDENT = "best-of-n"  # the search whose solutions are independent samples
# In the field `search` of a row; what is not a figure of the problem there is a setting of the search.
COUNTS = ("generated_tokens", "prompt_tokens", "prm_tokens")
FIGURES = (*COUNTS, "prompt_new_tokens", "prm_new_tokens", "distinct", "ess", "resamplings", "log_z")
TOLERANCE = 1.05  # tokens that differ by less than this factor count as equal at the ends of a curve
NO_TOKENS = "--x tokens needs 'num_tokens', which `erprm sample` and `erprm search` write"


@dataclass(slots=True)
class Costs:
    """The search that the rows of one file come from, and the tokens of each problem."""

    method: str = INDEPENDENT
    settings: Row = field(default_factory=dict)
    n: int | None = None  # the budget of a search
    counts: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # by count and problem
    seen: bool = False

    @property
    def is_search(self) -> bool:
        """Whether the solutions are those of one budget, and not independent samples."""
        return self.method != INDEPENDENT

    def counting(self, check: Callable[[Row], Row]) -> Callable[[Row], Row]:
        """Return `check`, extended: the tokens of a row that it returns are counted."""

        def counted(row: Row) -> Row:
            row = check(row)
            self.add(row)
            return row

        return counted

    def add(self, row: Row) -> None:
        """Count the tokens of a row; RowError if it has none, or comes from another search than the first."""
        figures: dict[str, Any] = row["search"] if isinstance(row.get("search"), dict) else {}
        method = str(row["method"]) if figures and "method" in row else INDEPENDENT
        settings = {name: value for name, value in figures.items() if name not in (*FIGURES, "n")}
        settings |= {"prm": row.get("prm"), "sampling": row.get("sampling")}
        n = figures.get("n") if method != INDEPENDENT else None
        if not self.seen:
            self.method, self.settings, self.n, self.seen = method, settings, n, True
        elif (method, settings, n) != (self.method, self.settings, self.n):
            raise RowError("this row comes from another search, PRM or policy than the rows before it")
        if self.is_search:
            counted = {name: figures.get(name) for name in COUNTS}
        else:
            counted = {"generated_tokens": row.get("num_tokens")}
        if not isinstance(counted["generated_tokens"], int | float):
            raise RowError(NO_TOKENS)
        for name, number in counted.items():
            if isinstance(number, int | float):
                self.counts.setdefault(name, {}).setdefault(row["id"], []).append(number)

    def mean(self, name: str, ids: Sequence[str]) -> float | None:
        """Return the mean count of a problem of a search, or of a sample; None if it is not known."""
        by_id = self.counts.get(name, {})
        if not all(id_ in by_id for id_ in ids):
            return None
        return float(np.mean([np.mean(by_id[id_]) for id_ in ids]))


@dataclass(slots=True)
class Searched:
    """The solutions of one file with their costs."""

    pool: Candidates
    costs: Costs


def read_searched(
    source: str, like: Candidates, limit: int | None, problems: Versions, names: FieldNames
) -> Searched:
    """Return the solutions in the file `source`, with scores if those of `like` have them.

    A bad row is an error; so is one whose problem is another version than that of its id in `problems`.
    """
    found = Searched(Candidates(source, like.table.aggregates), Costs())
    check = one_version(check_scored_candidate if like.scored else check_candidate)
    counting = found.costs.counting(lambda row: problems.check_problem(check(row)))
    bad = BadRows(remedy=EVERY_ROW)
    for row in read_rows(source, counting, bad, limit, ForeignRows(names=names)):
        found.pool.add(row)
    return found


class Way(NamedTuple):
    """A way to choose: a method of best_of_n.METHODS and, of one with scores, the aggregate."""

    method: str
    aggregate: str | None = None


@dataclass(frozen=True, slots=True)
class TokensResult:
    """The accuracy of one search at one budget; with `minus`, the difference to another one at its tokens.

    `tokens` are generated by the policy, `prompt_tokens` read by it and `prm_tokens` read by the PRM, all per
    problem; a file of samples does not tell the last two.
    """

    search: str
    minus: str | None
    way: Way
    n: int | None
    tokens: float
    prompt_tokens: float | None
    prm_tokens: float | None
    estimate: Estimate

    def row(self) -> Row:
        """Return the result as a row for --report."""
        estimate = self.estimate
        return {
            "search": self.search,
            "minus": self.minus,
            "method": self.way.method,
            "aggregate": self.way.aggregate,
            "n": self.n,
            "tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "prm_tokens": self.prm_tokens,
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "p": estimate.p,
            "problems": estimate.problems,
        }


class Budget(NamedTuple):
    """One point of a curve."""

    n: int | None
    tokens: float
    value_PV: Floats
    prompt_tokens: float | None = None
    prm_tokens: float | None = None


class Curve:
    """One search, or independent samples, at several budgets, on the same problems in the same order."""

    def __init__(
        self,
        files: Sequence[Searched],
        problems: Sequence[Sequence[GradedProblem]],
        chosen_by: Sequence[Way],
        seed: int,
    ) -> None:
        """Take files of one search, with their graded problems."""
        self.files, self.problems, self.seed = files, problems, seed
        self.weights = any(way.method == WEIGHTED for way in chosen_by)
        self.costs = files[0].costs
        self.name = self.costs.method

    def at(self, n: int) -> Budget:
        """Return the budget of n independent samples."""
        ids = [problem.id for problem in self.problems[0]]
        tokens = self.costs.mean("generated_tokens", ids)
        assert tokens is not None  # every row has it
        return Budget(n, n * tokens, self._values(self.problems[0], [n])[..., 0])

    def budgets(self, wanted: Sequence[int]) -> list[Budget]:
        """Return the budgets of a search, or the `wanted` numbers of samples as far as there are so many."""
        if not self.costs.is_search:
            most = self.most
            wanted = [n for n in wanted or default_budgets([most]) if n <= most]
            return [self.at(n) for n in wanted]
        found = []
        for file, problems in zip(self.files, self.problems, strict=True):
            sizes = [len(problem.correct_N) for problem in problems]
            kinds = sorted(set(sizes))
            value_PVB = self._values(problems, kinds)
            value_PV = np.stack([value_PVB[p, :, kinds.index(size)] for p, size in enumerate(sizes)])
            ids = [problem.id for problem in problems]
            tokens, prompt, prm = (file.costs.mean(name, ids) for name in COUNTS)
            assert tokens is not None
            found.append(Budget(file.costs.n, tokens, value_PV, prompt, prm))
        return sorted(found, key=lambda budget: budget.tokens)

    @property
    def most(self) -> int:
        """The number of samples that every problem has."""
        return min(len(problem.correct_N) for problem in self.problems[0])

    def value_at(self, tokens: float) -> Floats | None:
        """Return [P, V] at that many tokens, interpolated; None beyond the budgets, but for TOLERANCE."""
        if self.costs.is_search:
            points = self.budgets([])
        else:
            n = min(max(tokens / self.at(1).tokens, 1.0), float(self.most))
            points = [self.at(number) for number in sorted({math.floor(n), math.ceil(n)})]
        least, most = points[0].tokens, points[-1].tokens
        if not least / TOLERANCE <= tokens <= most * TOLERANCE:
            return None
        for low, high in pairwise(points):
            if low.tokens < tokens < high.tokens:
                part = math.log(tokens / low.tokens) / math.log(high.tokens / low.tokens)
                return low.value_PV + part * (high.value_PV - low.value_PV)
        nearest = min(points, key=lambda point: abs(point.tokens - tokens))
        return nearest.value_PV

    def _values(self, problems: Sequence[GradedProblem], budgets: Sequence[int]) -> Floats:
        """Return [P, V, B], in the order of `ways`."""
        pool = self.files[0].pool
        aggregates = len(pool.table.aggregates)
        found = accuracies(problems, int(pool.scored), aggregates, budgets, True, self.seed)
        if not pool.scored:
            return found.majority_PB[:, None]
        weighted = [found.weighted_PKAB[:, 0]] * self.weights
        return np.concatenate([*weighted, found.best_PKAB[:, 0]], axis=1)


def ways(pool: Candidates, problems: Iterable[GradedProblem]) -> list[Way]:
    """Return the ways to choose in `problems`, whose candidates are like those of `pool`.

    Negative scores, which models of whole solutions may give, cannot be weights of votes.
    """
    if not pool.scored:
        return [Way(MAJORITY)]
    weights = all((problem.score_KAN >= 0).all() for problem in problems)
    return [Way(method, name) for method in [WEIGHTED] * weights + [BEST] for name in pool.table.aggregates]


def evaluate(
    files: Sequence[Searched], budgets: Sequence[int], seed: int, grader: Grader, reporter: Reporter
) -> list[TokensResult]:
    """Return the accuracy of every search at every budget, and the first search minus each other one.

    Files of one search at several budgets are one curve. The differences are paired by problem, at the
    budgets of one of the two (see _common); at tokens that one of them does not reach, there is none.
    Problems with missing rewards are left out with a warning. Raises UserError unless all files have the
    same problems.
    """
    graded: list[dict[str, GradedProblem]] = []
    reporter.start("files", total=len(files))
    for file in files:
        _check_same_problems(files[0].pool, file.pool)
        graded.append({problem.id: problem for problem in file.pool.graded((), grader)})
        reporter.progress(len(graded), "files", len(files), "grouping answers")
    ids = [id_ for id_ in files[0].pool.problems if all(id_ in problems for problems in graded)]
    if without := len(files[0].pool.problems) - len(ids):
        reporter.warn(
            f"{without:,} problems are left out because 'reward' is missing; `erprm grade` writes it"
        )
    if not ids:
        return []
    problems_of = [[problems[id_] for id_ in ids] for problems in graded]
    chosen_by = ways(files[0].pool, chain.from_iterable(problems_of))
    curves, results = _curves(files, problems_of, chosen_by, seed), list[TokensResult]()
    for curve in curves:
        for budget in curve.budgets(budgets):
            for way, value_P in zip(chosen_by, budget.value_PV.T, strict=True):
                results.append(_result(curve.name, None, way, budget, mean_over_problems(value_P)))
    first = curves[0]
    for other in curves[1:]:
        for budget, ours, theirs in _common(first, other, budgets):
            for v, way in enumerate(chosen_by):
                difference = paired_difference(ours[:, v], theirs[:, v], seed)
                results.append(_result(first.name, other.name, way, budget, difference))
    return results


def _common(first: Curve, other: Curve, budgets: Sequence[int]) -> list[tuple[Budget, Floats, Floats]]:
    """Return the budgets at which both curves have values: of a search, preferably of the other one."""
    curves = [curve for curve in (other, first) if curve.costs.is_search] or [first]
    for curve in curves:
        found = []
        for budget in curve.budgets(budgets):
            ours, theirs = first.value_at(budget.tokens), other.value_at(budget.tokens)
            if ours is not None and theirs is not None:
                found.append((budget, ours, theirs))
        if found:
            return found
    return []


def _result(search: str, minus: str | None, way: Way, budget: Budget, estimate: Estimate) -> TokensResult:
    counts = budget.tokens, budget.prompt_tokens, budget.prm_tokens
    return TokensResult(search, minus, way, budget.n, *counts, estimate)


def _check_same_problems(ours: Candidates, theirs: Candidates) -> None:
    lacking = sorted(ours.problems.keys() ^ theirs.problems.keys())
    if lacking:
        raise UserError(
            f"{file_label(ours.table.source)} and {file_label(theirs.table.source)} differ by "
            f"{len(lacking):,} problems, such as id {lacking[0]!r}; a comparison needs the same problems"
        )


def _curves(
    files: Sequence[Searched], problems: Sequence[list[GradedProblem]], chosen_by: Sequence[Way], seed: int
) -> list[Curve]:
    """Return the curves in the order of their first files, with names that differ."""
    groups: list[list[int]] = []
    for index, file in enumerate(files):
        for group in groups:
            costs = [files[other].costs for other in group]
            same = (costs[0].method, costs[0].settings) == (file.costs.method, file.costs.settings)
            if file.costs.is_search and same and file.costs.n not in [one.n for one in costs]:
                group.append(index)
                break
        else:
            groups.append([index])
    curves = [
        Curve([files[i] for i in group], [problems[i] for i in group], chosen_by, seed) for group in groups
    ]
    for curve in curves:
        rivals = [other.costs for other in curves if other.costs.method == curve.costs.method]
        differing = [
            f"{name} {value}"
            for name, value in curve.costs.settings.items()
            if not isinstance(value, dict) and any(other.settings.get(name) != value for other in rivals)
        ]
        curve.name = ", ".join([curve.costs.method, *differing])
    names = [curve.name for curve in curves]
    for curve in curves:
        if names.count(curve.name) > 1:
            curve.name += f", {file_label(curve.files[0].pool.table.source)}"
    return curves
