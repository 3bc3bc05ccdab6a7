"""The candidates of each problem: collected from rows in any order; one of each problem is chosen.

Candidates with scores are chosen by the highest score, those without by majority vote.

Shapes: N candidates of one problem, L steps of one candidate, K reward models, A aggregates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from erprm_cli.answers.grader import Grader
from erprm_cli.answers.voting import group_equal
from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.evaluation.arrays import Bools, Floats, Ints
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import check_rows, read_rows
from erprm_cli.prm.scoring import NO_SCORES, SCORES_REMEDY
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.rows.versions import Versions, one_version

MAJORITY = "majority vote"
EVERY_ROW = "a comparison needs every row"


def check_candidate(row: Row) -> Row:
    """Check a candidate: a solution row whose `prediction` is text or null, `reward` a number or null."""
    schema.check_solution(row)
    if not isinstance(row.get("prediction"), str | None):
        raise RowError("'prediction' must be a string or null; `erprm grade` writes it")
    reward = row.get("reward")
    if isinstance(reward, bool) or not isinstance(reward, int | float | None):
        raise RowError("'reward' must be a number or null; `erprm grade` writes it")
    return row


def has_score(row: Row) -> bool:
    """Return whether a row has `scores`, or `model_reward`, the score of a model of whole solutions."""
    return row.get("scores") is not None or row.get("model_reward") is not None


def check_scored_candidate(row: Row) -> Row:
    """Check a candidate with `scores` or `model_reward`."""
    if not has_score(row):
        raise RowError(NO_SCORES)
    if row.get("scores") is None:
        schema.check_numbers([row["model_reward"]], "'model_reward'")
        return check_candidate(row)
    return schema.check_scores(check_candidate(row))


class CandidateCheck:
    """Checks candidates that all have scores, or none has: the first good row decides."""

    def __init__(self, need_scores: str = "") -> None:
        """If the first row has no scores, raise UsageError that names the flags `need_scores`, if any."""
        self.need_scores = need_scores
        self.scored: bool | None = None

    def __call__(self, row: Row) -> Row:
        """Return the row; RowError if it is not a candidate, or has scores unlike the first one."""
        scored = has_score(row)
        if self.scored or (scored and self.scored is None):
            row = check_scored_candidate(row)
        elif scored:
            raise RowError("this row has scores, but rows before it have none; `erprm score` scores all rows")
        else:
            row = check_candidate(row)
            if self.need_scores:
                raise UsageError(f"{self.need_scores} cannot be used without scores; {SCORES_REMEDY}")
        self.scored = scored
        return row


def check_compared(source: str, names: FieldNames, limit: int | None) -> None:
    """Raise UserError if a row of a file to compare with has no scores, or is there twice."""
    check = one_version(check_scored_candidate)
    check_rows(source, check, BadRows(remedy=EVERY_ROW), limit, ForeignRows(names=names))


def read_scores(
    source: str,
    aggregates: Sequence[str],
    limit: int | None,
    candidates: Versions,
    names: FieldNames | None = None,
) -> "ScoreTable":
    """Return the scores in the file `source`, to compare with those of `candidates`. A bad row is an error.

    So is a row whose problem or solution is not that of the candidate with its id and sample. `names` finds
    fields under other names.
    """
    table = ScoreTable(source, aggregates)
    bad = BadRows(remedy=EVERY_ROW)
    check = one_version(check_scored_candidate)
    foreign = ForeignRows(names=names)
    for row in read_rows(source, lambda row: candidates.check(check(row)), bad, limit, foreign):
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
                    f"{file_label(table.source)} lacks {len(missing):,} of {len(ours | theirs):,} "
                    f"candidates, such as id {problem!r}, sample {sample}; a comparison needs the same "
                    "candidates scored by each PRM"
                )


@dataclass(slots=True)
class Problem:
    """One problem: the correctness and the prediction of each candidate [N], and the rows to choose from."""

    chosen: Row  # with the highest score so far; without scores, the first row
    score: float = 0.0
    correct: list[bool | None] = field(default_factory=list)
    predictions: list[str | None] = field(default_factory=list)
    first_rows: dict[str, Row] = field(default_factory=dict)  # by prediction, if there are no scores


class Candidates:
    """The candidates of all problems, which all have scores, or none has.

    With scores, the candidate with the highest score by the first aggregate is chosen; of tied candidates,
    the first one. Without scores, it is the first candidate with the most frequent answer; of tied answers,
    the one that comes first.
    """

    def __init__(self, source: str, aggregates: Sequence[str]) -> None:
        """Collect candidates from the rows of `source`, with one score per aggregate, if they have scores."""
        self.table = ScoreTable(source, aggregates)
        self.problems: dict[str, Problem] = {}
        self.count = 0
        self.partly_compared: set[str] = set()  # problems with more answers than votes compare

    @property
    def scored(self) -> bool:
        """Whether the candidates have scores."""
        return bool(self.table.scores)

    def add(self, row: Row) -> None:
        """Add a checked row. Only the rows that may be chosen stay in memory."""
        problem = self.problems.setdefault(row["id"], Problem(row))
        prediction = row.get("prediction")
        if has_score(row):
            score = self.table.add(row)
            if not problem.correct or score > problem.score:  # so of tied candidates the first one stays
                problem.chosen, problem.score = row, score
        elif prediction is not None:
            problem.first_rows.setdefault(prediction, row)
        reward = row.get("reward")
        problem.correct.append(None if reward is None else schema.is_correct(reward))
        problem.predictions.append(prediction)
        self.count += 1

    def check_evidence(self) -> None:
        """Raise UserError if there are candidates, but none has scores, a prediction or a reward."""
        if self.count and not self.scored and not any(map(_has_evidence, self.problems.values())):
            raise UserError(
                f"{file_label(self.table.source)}: no row has 'scores', 'prediction' or 'reward'; "
                "`erprm grade` writes predictions and rewards, `erprm score` scores"
            )

    def choices(self, grader: Grader | None = None) -> Iterator[Row]:
        """Yield the chosen row of each problem, in the order of the problems.

        Without scores, answers that `grader` finds equal vote together, and `score` is their share of the
        candidates.
        """
        for id_, problem in self.problems.items():
            chosen, score = problem.chosen, problem.score
            classes = [] if self.scored else self.classes(id_, problem, grader)
            if classes:
                majority = max(classes, key=len)  # of tied classes, the one that comes first
                chosen = problem.first_rows[problem.predictions[majority[0]] or ""]
                score = len(majority) / len(problem.predictions)
            reward = chosen.get("reward")
            yield chosen | {
                "score": score,
                "n": len(problem.correct),
                "aggregate": self.table.aggregates[0] if self.scored else MAJORITY,
                "correct": None if reward is None else schema.is_correct(reward),
            }

    def graded(
        self, others: Sequence[ScoreTable] = (), grader: Grader | None = None
    ) -> Iterator["GradedProblem"]:
        """Yield the problems whose candidates all have a reward, with the scores of this and of other PRMs.

        Answers that `grader` finds equal vote together; without a grader, those with one canonical form.
        """
        tables = (self.table, *others) if self.scored else ()
        for id_, problem in self.problems.items():
            if None in problem.correct:
                continue
            samples = self.table.scores.get(id_, {})
            score_KNA = np.array([[table.scores[id_][sample] for sample in samples] for table in tables])
            score_KNA = score_KNA.reshape(len(tables), len(problem.correct), len(self.table.aggregates))
            yield GradedProblem(
                id_,
                score_KNA.swapaxes(1, 2),
                np.array(problem.correct, dtype=bool),
                class_numbers(self.classes(id_, problem, grader), len(problem.predictions)),
            )

    def classes(self, id_: str, problem: Problem, grader: Grader | None) -> list[list[int]]:
        """Return the classes of equal predictions; note the problem if not all of them could be compared."""
        found = group_equal(problem.predictions, grader)
        if not found.is_complete:
            self.partly_compared.add(id_)
        return found.members


def _has_evidence(problem: Problem) -> bool:
    return bool(problem.first_rows) or any(correct is not None for correct in problem.correct)


class GradedProblem(NamedTuple):
    """One problem whose candidates all have a reward."""

    id: str
    score_KAN: Floats
    correct_N: Bools
    class_N: Ints  # number of the answer; -1: no answer


def answer_classes(predictions: Sequence[str | None], grader: Grader | None = None) -> Ints:
    """Return [N], for each prediction the number of its class of equal answers; -1 for null."""
    return class_numbers(group_equal(predictions, grader).members, len(predictions))


def class_numbers(classes: Sequence[Sequence[int]], size: int) -> Ints:
    """Return [N] for N = `size` answers, for each one the number of its class; -1 for one in no class."""
    class_N = np.full(size, -1)
    for number, indices in enumerate(classes):
        class_N[indices] = number
    return class_N


class Scored(Protocol):
    """Scores from the rows of `source`, which name the PRM `prm` or none."""

    source: str
    prm: str | None


def prm_names(found: Sequence[Scored]) -> list[str]:
    """Return short, different names of the PRMs: the last parts of their names, else the files' names."""
    names = [Path(one.prm).name if one.prm else file_label(one.source) for one in found]
    if len(set(names)) < len(names):
        names = [file_label(one.source) for one in found]
    if len(set(names)) < len(names):
        names = [one.source for one in found]
    return ["".join(c if c.isprintable() else "?" for c in name) for name in names]


def file_label(source: str) -> str:
    """Return the name of a file of rows for people, without its endings."""
    return "stdin" if source == "-" else Path(source).name.removesuffix(".gz").removesuffix(".jsonl")
