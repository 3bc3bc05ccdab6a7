"""The candidates of each problem: gathered from scored rows in any order, chosen among, judged, compared.

Shapes: P problems, N candidates of one problem, K reward models, A aggregates, B budgets (values of n).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from erprm_cli import records
from erprm_cli.answers import Grader, group
from erprm_cli.engines import derive_seed
from erprm_cli.errors import RowError, UserError
from erprm_cli.jsonl import BadRows, Row, read_rows
from erprm_cli.scored_rows import NO_SCORES
from erprm_cli.selection import (
    Estimate,
    Floats,
    aggregate,
    best_of_n,
    mean_over_problems,
    paired_difference,
    pass_at_n,
    votes_at_n,
)
from erprm_cli.streams import unique

BUDGETS = (1, 4, 8, 16, 32, 64)
CORRECT_ABOVE = 0.5  # the reward of a correct answer is 1.0, of any other 0.0
MAJORITY, WEIGHTED, BEST, PASS, PASS_1 = "majority vote", "weighted vote", "best of n", "pass@n", "pass@1"


def solution(row: Row) -> Row:
    """Check a solution row as a candidate: `prediction` is text or null, `reward` a number or null."""
    records.solution(row)
    if not isinstance(row.get("prediction"), str | None):
        raise RowError("'prediction' is no text and not null; `erprm sample` writes it")
    reward = row.get("reward")
    if isinstance(reward, bool) or not isinstance(reward, int | float | None):
        raise RowError("'reward' is no number and not null; `erprm sample` writes it")
    return row


def scored_solution(row: Row) -> Row:
    """Check a candidate that has its scores."""
    if row.get("scores") is None:
        raise RowError(NO_SCORES)
    return records.scores(solution(row))


def read_scores(source: str, aggregates: Sequence[str], limit: int | None = None) -> "ScoreTable":
    """Return the scores in `source`, for a comparison; any bad row is an error."""
    table = ScoreTable(source, aggregates)
    bad = BadRows(remedy="A comparison needs every row")
    for row in read_rows(source, unique(scored_solution, "id", "sample"), bad, limit):
        table.add(row)
    return table


class ScoreTable:
    """What one reward model says of candidates: per problem id and sample, one score per aggregate."""

    def __init__(self, source: str, aggregates: Sequence[str]) -> None:
        """Hold the scores of the rows of `source`, which names the model if its rows do not."""
        self.source = source
        self.aggregates = aggregates
        self.prm: str | None = None
        self.scores: dict[str, dict[int, tuple[float, ...]]] = {}

    def add(self, row: Row) -> float:
        """Add a scored row and return its score by the first aggregate."""
        if self.prm is None and isinstance(row.get("prm"), str):
            self.prm = row["prm"]
        values = tuple(aggregate(row["scores"], name) for name in self.aggregates)
        self.scores.setdefault(row["id"], {})[row["sample"]] = values
        return values[0]

    def keys(self) -> set[tuple[str, int]]:
        return {(problem, sample) for problem, samples in self.scores.items() for sample in samples}

    def check_same(self, other: "ScoreTable") -> None:
        """Raise UserError unless `other` scores exactly the candidates that this table scores."""
        ours, theirs = self.keys(), other.keys()
        for lacking, missing in ((other, ours - theirs), (self, theirs - ours)):
            if missing:
                problem, sample = min(missing)
                raise UserError(
                    f"{_label(lacking.source)} lacks {len(missing):,} of {len(ours | theirs):,} candidates, "
                    f"such as id {problem!r}, sample {sample}; a comparison needs the same candidates "
                    "scored by each PRM"
                )


@dataclass(slots=True)
class Problem:
    """One problem: the row chosen so far, and whether each candidate [N] is correct and what it answers."""

    chosen: Row
    score: float
    correct: list[bool | None]
    predictions: list[str | None]


class Candidates:
    """All candidates of all problems. The first aggregate chooses; the first of the best wins a tie."""

    def __init__(self, source: str, aggregates: Sequence[str]) -> None:
        self.table = ScoreTable(source, aggregates)
        self.problems: dict[str, Problem] = {}
        self.count = 0

    def add(self, row: Row) -> None:
        """Add a scored row; of the row itself only the best of each problem is kept."""
        score = self.table.add(row)
        problem = self.problems.setdefault(row["id"], Problem(row, score, [], []))
        if score > problem.score:
            problem.chosen, problem.score = row, score
        reward = row.get("reward")
        problem.correct.append(None if reward is None else reward > CORRECT_ABOVE)
        problem.predictions.append(row.get("prediction"))
        self.count += 1

    def choices(self) -> Iterator[Row]:
        """Yield the chosen row of each problem, in the order of the problems."""
        for problem in self.problems.values():
            reward = problem.chosen.get("reward")
            yield problem.chosen | {
                "score": problem.score,
                "n": len(problem.correct),
                "aggregate": self.table.aggregates[0],
                "correct": None if reward is None else reward > CORRECT_ABOVE,
            }

    def graded(self, others: Sequence[ScoreTable] = (), grader: Grader | None = None) -> Iterator["Graded"]:
        """Yield the problems whose candidates all have a reward, scored by this and by other PRMs.

        Answers that are equal to `grader` vote together; without one, those of one canonical form.
        """
        for id_, problem in self.problems.items():
            if None in problem.correct:
                continue
            samples = self.table.scores[id_]
            score_KNA = np.array(
                [[table.scores[id_][sample] for sample in samples] for table in (self.table, *others)]
            )
            yield Graded(
                id_,
                score_KNA.swapaxes(1, 2),
                np.array(problem.correct, dtype=bool),
                answer_classes(problem.predictions, grader),
            )


class Graded(NamedTuple):
    """One problem with known outcomes."""

    id: str
    score_KAN: Floats
    correct_N: NDArray[np.bool_]
    class_N: NDArray[np.intp]  # -1 where there is no answer


def answer_classes(predictions: Sequence[str | None], grader: Grader | None = None) -> NDArray[np.intp]:
    """Return the number of the class of equal answers to which each prediction belongs; -1 for null."""
    class_N = np.full(len(predictions), -1)
    for number, indices in enumerate(group(predictions, grader)):
        class_N[indices] = number
    return class_N


def default_budgets(sizes: Iterable[int]) -> list[int]:
    """Return `BUDGETS` up to the largest number of candidates, and that number if all problems have it."""
    sizes = set(sizes)
    return sorted({n for n in BUDGETS if n <= max(sizes)} | (sizes if len(sizes) == 1 else set()))


def prm_names(tables: Sequence[ScoreTable]) -> list[str]:
    """Return a short name for each PRM: the last part of its own, or the file's where these are equal."""
    names = [Path(table.prm).name if table.prm else _label(table.source) for table in tables]
    if len(set(names)) < len(names):
        names = [_label(table.source) for table in tables]
    if len(set(names)) < len(names):
        names = [table.source for table in tables]
    return ["".join(c if c.isprintable() else "?" for c in name) for name in names]


def _label(source: str) -> str:
    return "stdin" if source == "-" else Path(source).name.removesuffix(".gz").removesuffix(".jsonl")


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

    chosen = [(WEIGHTED, curves.weighted_PKAB)] * votes + [(BEST, curves.best_PKAB)]
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
