"""The candidates of each problem: gathered from scored rows in any order, chosen among, judged, compared.

Shapes: P problems, N candidates of one problem, K reward models, A aggregates, B budgets (values of n).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from erprm_cli.answers.grader import Grader
from erprm_cli.answers.voting import group
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.errors import RowError, UserError
from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.evaluation.estimates import Floats
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows
from erprm_cli.prm.scoring import NO_SCORES
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.rows.streams import unique

CORRECT_ABOVE = 0.5  # the reward of a correct answer is 1.0, of any other 0.0


def solution(row: Row) -> Row:
    """Check a solution row as a candidate: `prediction` is text or null, `reward` a number or null."""
    schema.check_solution(row)
    if not isinstance(row.get("prediction"), str | None):
        raise RowError("'prediction' is no text and not null; `erprm sample` writes it")
    reward = row.get("reward")
    if isinstance(reward, bool) or not isinstance(reward, int | float | None):
        raise RowError("'reward' is no number and not null; `erprm sample` writes it")
    return row


def scored_solution(row: Row) -> Row:
    """Check a candidate that has its scores, or the one score of a model that judges whole solutions."""
    if row.get("scores") is None and row.get("model_reward") is not None:
        schema.check_numbers([row["model_reward"]], "'model_reward'")
        return solution(row)
    if row.get("scores") is None:
        raise RowError(NO_SCORES)
    return schema.check_scores(solution(row))


def read_scores(source: str, aggregates: Sequence[str], limit: int | None = None) -> "ScoreTable":
    """Return the scores in `source`, for a comparison; any bad row is an error."""
    table = ScoreTable(source, aggregates)
    bad = BadRows(remedy="A comparison needs every row")
    for row in read_rows(source, unique(scored_solution, "id", "sample"), bad, limit, ForeignRows()):
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
        # What a model says of a whole solution is the same however the scores of steps are made one.
        score_L = [row["model_reward"]] if row.get("scores") is None else row["scores"]
        values = tuple(aggregate(score_L, name) for name in self.aggregates)
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
