"""The Python API, for notebooks and scripts: `import erprm_cli as erprm`.

Rows are dicts, as the commands read and write them, so a step of the chain can run in a shell or here. A
function that takes rows takes any iterable; one that yields rows is lazy. UserError (a file or a model) and
RowError (a row) say what is wrong.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from erprm_cli.answers.grader import Grader
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.errors import RowError as RowError
from erprm_cli.errors import UserError as UserError
from erprm_cli.evaluation import best_of_n as bon
from erprm_cli.evaluation import candidates
from erprm_cli.evaluation import processbench as bench
from erprm_cli.evaluation.aggregation import aggregate as aggregate
from erprm_cli.io import reading, writing
from erprm_cli.labels.estimator import entropy_regularized as entropy_regularized
from erprm_cli.labels.estimator import estimator_fields
from erprm_cli.labels.estimator import label_of_rate as label_of_rate
from erprm_cli.labels.estimator import rate_of_label as rate_of_label
from erprm_cli.labels.estimator import relabel as relabel
from erprm_cli.labels.intervals import label_intervals
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row as Row
from erprm_cli.terminal.reporter import Reporter

if TYPE_CHECKING:
    from erprm_cli.prm.scorer import Scorer


def read_rows(source: str | Path, *, limit: int | None = None) -> Iterator[Row]:
    """Yield the rows of a file: JSON Lines (plain, .gz, .zst), a JSON array, or parquet.

    `source` may also be tiny:train, tiny:test or hf://OWNER/NAME:CONFIG/SPLIT. Rows of other projects become
    rows of erprm, as with `erprm convert`. Raises UserError that names the line of a bad row.
    """
    return reading.read_rows(str(source), dict, limit=limit, expand=ForeignRows())


def write_rows(path: str | Path, rows: Iterable[Row], *, overwrite: bool = False) -> int:
    """Write rows as JSON Lines (.gz and .zst are compressed) and return how many there are.

    The file appears when all rows are written. Raises UserError if it exists, unless `overwrite`.
    """
    return writing.write_rows(Path(path), rows, overwrite=overwrite)


def label(rows: Iterable[Row], eta: float = 1.0, *, intervals: bool = False) -> Iterator[Row]:
    """Yield each row with `labels`, `eta` and `estimator`, from its `rollouts`, as `erprm label` does.

    A label is ln(mean_k e^(eta r_k)) / eta over the rewards r_k of a step's rollouts: the mean (soft label)
    at eta = 0, the maximum (hard label) at eta = inf. A step without rollouts (None) has the label None.
    With `intervals`, rows also get `label_low` and `label_high`, the 95 % interval of each label. Raises
    RowError if a row has no valid rollouts, or rewards other than 0 and 1 where intervals are wanted.
    """
    for row in rows:
        rollouts = schema.check_rollouts(row)["rollouts"]
        made: Row = {
            "labels": [None if rewards is None else entropy_regularized(rewards, eta) for rewards in rollouts]
        }
        if intervals:
            ends = [found or (None, None) for found in label_intervals(rollouts, eta)]
            made |= {"label_low": [low for low, _ in ends], "label_high": [high for _, high in ends]}
        yield row | made | estimator_fields(eta)


def load_prm(
    name: str | Path,
    *,
    prm_format: str | None = None,
    eta: float | None = None,
    dtype: str = "auto",
    revision: str | None = None,
) -> "Scorer":
    """Load a process reward model, of erprm or published, from a folder or the Hub.

    Its method `score(rows)` yields rows with `scores`, one probability for each of a row's `steps`; a row
    needs `problem` and `steps` only. `prm_format` and `eta` are the flags of `erprm score`. Raises UserError
    if the model or its tokenizer is unsuitable.
    """
    from erprm_cli.prm.scorer import Scorer  # loads torch

    return Scorer(str(name), prm_format=prm_format, eta=eta, dtype=dtype, revision=revision)


def choose(rows: Iterable[Row], *, aggregate: str = "min") -> list[Row]:
    """Return the best candidate of each problem, with `score`, `n` and `correct`, as `erprm bon` writes it.

    Candidates with scores are chosen by the `aggregate` of their step scores (min, last, prod, mean, max);
    without scores, by majority vote. In a tie the first one wins.
    """
    pool = _candidates(rows, [aggregate])
    with Grader() as grader:
        return list(pool.choices(grader))


def best_of_n(
    rows: Iterable[Row], *, budgets: Sequence[int] = (), aggregates: Sequence[str] = ("min",), seed: int = 0
) -> list[Row]:
    """Return one row per result of `erprm bon`: pass@1, votes, best-of-n and pass@n, with 95 % intervals.

    `budgets` are values of n; by default 1, 4, 8, 16, 32, 64 and all candidates. The rows are those of
    `--report`: prm, method, aggregate, n, value, low, high, problems.
    """
    pool = _candidates(rows, aggregates)
    with Grader() as grader:
        results = bon.evaluate(pool, (), sorted(set(budgets)), seed, grader, Reporter("best_of_n"))
    return [result.row() for result in results]


def processbench(
    rows: Iterable[Row],
    *,
    threshold: float = bench.THRESHOLD,
    tune_on: str | None = None,
    oracle: bool = False,
) -> list[Row]:
    """Return one row per split and their average: F1 and the two accuracies, as `erprm processbench` writes.

    Rows need `steps`, `label` (the first wrong step, -1 if none) and `scores`, and may name their `split`.
    A step with a score below the threshold counts as wrong. `tune_on` names the split whose best threshold
    holds for all; with `oracle` each split has its best one.
    """
    splits = bench.Splits()
    for row in rows:
        splits.add(bench.check_scored_row(row), "rows")
    results = bench.evaluate(splits.all(), threshold, tune_on, oracle, splits.prm)
    return [result.row() for result in results]


def _candidates(rows: Iterable[Row], aggregates: Sequence[str]) -> candidates.Candidates:
    """Return the checked candidates. Raises RowError, or UserError if nothing tells good ones from bad."""
    pool, check = candidates.Candidates("rows", aggregates), candidates.CandidateCheck()
    for row in rows:
        pool.add(check(row))
    pool.check_evidence()
    return pool
