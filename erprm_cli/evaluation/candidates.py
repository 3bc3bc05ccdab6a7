"""The candidates of each problem: collected from scored rows in any order; the best one is chosen.

Shapes: N candidates of one problem, L steps of one candidate, K reward models, A aggregates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from erprm_cli.answers.grader import Grader
from erprm_cli.answers.voting import group_equal
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.errors import RowError, UserError
from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.evaluation.arrays import Bools, Floats, Ints
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows
from erprm_cli.prm.scoring import NO_SCORES
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.rows.streams import unique


def check_candidate(row: Row) -> Row:
    """Check a candidate: a solution row whose `prediction` is text or null, `reward` a number or null."""
    schema.check_solution(row)
    if not isinstance(row.get("prediction"), str | None):
        raise RowError("'prediction' must be a string or null; `erprm sample` writes it")
    reward = row.get("reward")
    if isinstance(reward, bool) or not isinstance(reward, int | float | None):
        raise RowError("'reward' must be a number or null; `erprm sample` writes it")
    return row


def check_scored_candidate(row: Row) -> Row:
    """Check a candidate with `scores`, or with `model_reward`, the score of a model of whole solutions."""
    if row.get("scores") is None and row.get("model_reward") is not None:
        schema.check_numbers([row["model_reward"]], "'model_reward'")
        return check_candidate(row)
    if row.get("scores") is None:
        raise RowError(NO_SCORES)
    return schema.check_scores(check_candidate(row))


def read_scores(source: str, aggregates: Sequence[str], limit: int | None = None) -> "ScoreTable":
    """Return the scores in the file `source`, to compare with others. A bad row is an error."""
    table = ScoreTable(source, aggregates)
    bad = BadRows(remedy="A comparison needs every row")
    for row in read_rows(source, unique(check_scored_candidate, "id", "sample"), bad, limit, ForeignRows()):
        table.add(row)
    return table


class ScoreTable:
    """The scores of one reward model: for each problem id and sample, one score per aggregate."""

    def __init__(self, source: str, aggregates: Sequence[str]) -> None:
        """Start an empty table for the rows of `source`, whose name is used if rows do not name their PRM."""
        self.source = source
        self.aggregates = aggregates
        self.prm: str | None = None
        self.scores: dict[str, dict[int, tuple[float, ...]]] = {}

    def add(self, row: Row) -> float:
        """Add a scored row; return its score by the first aggregate."""
        if self.prm is None and isinstance(row.get("prm"), str):
            self.prm = row["prm"]
        # The score of a whole solution is the same for every aggregate.
        score_L = [row["model_reward"]] if row.get("scores") is None else row["scores"]
        values = tuple(aggregate(score_L, name) for name in self.aggregates)
        self.scores.setdefault(row["id"], {})[row["sample"]] = values
        return values[0]

    def keys(self) -> set[tuple[str, int]]:
        """Return (id, sample) of every candidate in the table."""
        return {(problem, sample) for problem, samples in self.scores.items() for sample in samples}

    def check_same(self, other: "ScoreTable") -> None:
        """Raise UserError unless `other` has scores of exactly the same candidates as this table."""
        ours, theirs = self.keys(), other.keys()
        for table, missing in ((other, ours - theirs), (self, theirs - ours)):
            if missing:
                problem, sample = min(missing)
                raise UserError(
                    f"{_label(table.source)} lacks {len(missing):,} of {len(ours | theirs):,} candidates, "
                    f"such as id {problem!r}, sample {sample}; a comparison needs the same candidates "
                    "scored by each PRM"
                )


@dataclass(slots=True)
class Problem:
    """One problem: the row chosen so far, and the correctness and the prediction of each candidate [N]."""

    chosen: Row
    score: float
    correct: list[bool | None]
    predictions: list[str | None]


class Candidates:
    """The candidates of all problems. The first aggregate chooses; of tied candidates, the first one."""

    def __init__(self, source: str, aggregates: Sequence[str]) -> None:
        """Collect candidates from the rows of `source`, with one score per aggregate."""
        self.table = ScoreTable(source, aggregates)
        self.problems: dict[str, Problem] = {}
        self.count = 0

    def add(self, row: Row) -> None:
        """Add a scored row. Only the best row of each problem stays in memory."""
        score = self.table.add(row)
        problem = self.problems.setdefault(row["id"], Problem(row, score, [], []))
        if score > problem.score:  # so of tied candidates the first one stays
            problem.chosen, problem.score = row, score
        reward = row.get("reward")
        problem.correct.append(None if reward is None else schema.is_correct(reward))
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
                "correct": None if reward is None else schema.is_correct(reward),
            }

    def graded(
        self, others: Sequence[ScoreTable] = (), grader: Grader | None = None
    ) -> Iterator["GradedProblem"]:
        """Yield the problems whose candidates all have a reward, with the scores of this and of other PRMs.

        Answers that `grader` finds equal vote together; without a grader, those with one canonical form.
        """
        for id_, problem in self.problems.items():
            if None in problem.correct:
                continue
            samples = self.table.scores[id_]
            score_KNA = np.array(
                [[table.scores[id_][sample] for sample in samples] for table in (self.table, *others)]
            )
            yield GradedProblem(
                id_,
                score_KNA.swapaxes(1, 2),
                np.array(problem.correct, dtype=bool),
                answer_classes(problem.predictions, grader),
            )


class GradedProblem(NamedTuple):
    """One problem whose candidates all have a reward."""

    id: str
    score_KAN: Floats
    correct_N: Bools
    class_N: Ints  # number of the answer; -1: no answer


def answer_classes(predictions: Sequence[str | None], grader: Grader | None = None) -> Ints:
    """Return [N], for each prediction the number of its class of equal answers; -1 for null."""
    class_N = np.full(len(predictions), -1)
    for number, indices in enumerate(group_equal(predictions, grader)):
        class_N[indices] = number
    return class_N


def prm_names(tables: Sequence[ScoreTable]) -> list[str]:
    """Return short, different names of the PRMs: the last parts of their names, else the files' names."""
    names = [Path(table.prm).name if table.prm else _label(table.source) for table in tables]
    if len(set(names)) < len(names):
        names = [_label(table.source) for table in tables]
    if len(set(names)) < len(names):
        names = [table.source for table in tables]
    return ["".join(c if c.isprintable() else "?" for c in name) for name in names]


def _label(source: str) -> str:
    return "stdin" if source == "-" else Path(source).name.removesuffix(".gz").removesuffix(".jsonl")
