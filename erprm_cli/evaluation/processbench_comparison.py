"""Two PRMs on the same rows of ProcessBench: the rows are paired, and so are the differences.

Shapes: D draws.
"""

from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np

from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.errors import RowError, UserError
from erprm_cli.evaluation.arrays import Bools, Floats
from erprm_cli.evaluation.candidates import EVERY_ROW, prm_names
from erprm_cli.evaluation.processbench import (
    AVERAGE,
    DRAWS,
    ProcessBenchResult,
    Split,
    Splits,
    check_scored_row,
    estimates_from_draws,
    evaluate,
    harmonic_mean,
    row_key,
)
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import check_rows, read_rows
from erprm_cli.rows.row import Row

SAME_ROWS = "a comparison needs the same rows scored by each PRM"


def check_compared(source: str, names: FieldNames, limit: int | None) -> None:
    """Raise UserError if a row of a file to compare with is not a scored one of ProcessBench."""
    check_rows(source, check_scored_row, BadRows(remedy=EVERY_ROW), limit, lambda row: (names.renamed(row),))


def read_same_rows(source: str, ours: Splits, names: FieldNames, limit: int | None = None) -> Splits:
    """Return the rows of the file `source` in the splits and in the order of `ours`.

    A row is known by its id, problem, steps and label; its split and its place in the file do not matter.
    Raises UserError for a bad row, and unless the rows are those of `ours`.
    """
    wanted: dict[bytes, deque[str]] = defaultdict(deque)  # splits
    for split, key in ours.keys:
        wanted[key].append(split)
    found: dict[tuple[str, bytes], deque[Row]] = defaultdict(deque)

    def check(row: Row) -> Row:
        key = row_key(check_scored_row(row))
        if not wanted[key]:
            raise RowError(f"no row of INPUT has this id, problem, steps and label; {SAME_ROWS}")
        split = wanted[key].popleft()
        found[split, key].append(row | {"split": split})
        return row

    bad = BadRows(remedy=EVERY_ROW)
    for _ in read_rows(source, check, bad, limit, lambda row: (names.renamed(row),)):
        pass
    if lacking := sum(map(len, wanted.values())):
        raise UserError(f"lacks {lacking:,} of {ours.count:,} rows of INPUT; {SAME_ROWS}", where=source)
    theirs = Splits(source)
    for place in ours.keys:
        theirs.add(found[place].popleft(), source)
    return theirs


def evaluate_all(
    prms: Sequence[Splits], threshold: float, tune_on: str | None, oracle: bool
) -> tuple[list[list[ProcessBenchResult]], list[ProcessBenchResult]]:
    """Return the results of each PRM, and the differences between the first one and each other one.

    All have the same rows in the same order (`read_same_rows`). `threshold`, `tune_on` and `oracle` are those
    of `processbench.evaluate`; a threshold that is chosen is chosen for each PRM.
    """
    names = prm_names(prms) if len(prms) > 1 else [prms[0].prm]
    each = [
        evaluate(splits.all(), threshold, tune_on, oracle, name)
        for splits, name in zip(prms, names, strict=True)
    ]
    differences: list[ProcessBenchResult] = []
    for splits, results in zip(prms[1:], each[1:], strict=True):
        differences += paired_differences(prms[0].all(), splits.all(), each[0], results)
    return each, differences


def paired_differences(
    ours: Sequence[Split],
    theirs: Sequence[Split],
    our_results: Sequence[ProcessBenchResult],
    their_results: Sequence[ProcessBenchResult],
) -> list[ProcessBenchResult]:
    """Return how much better we are on each split, and on average, each PRM at the threshold of its result.

    The splits have the same rows in the same order.
    """
    results, values, draws = [], [], []
    prm, minus = our_results[0].prm, their_results[0].prm
    rng = np.random.default_rng(0)
    for split, other, result, other_result in zip(ours, theirs, our_results, their_results, strict=False):
        assert result.threshold is not None and other_result.threshold is not None  # only averages have none
        pairs = zip(split.outcomes(result.threshold), other.outcomes(other_result.threshold), strict=True)
        drawn_errors, drawn_correct = (_draws(*pair, rng) for pair in pairs)
        drawn = [
            np.stack([harmonic_mean(errors, correct), errors, correct], axis=1)
            for errors, correct in zip(drawn_errors, drawn_correct, strict=True)
        ]
        values.append(_values(result) - _values(other_result))
        draws.append(drawn[0] - drawn[1])
        estimates = estimates_from_draws(values[-1], draws[-1], split.counts)
        results.append(ProcessBenchResult(split.name, result.rule, None, *estimates, prm=prm, minus=minus))
    if len(ours) > 1:
        counts = np.sum([split.counts for split in ours], axis=0).tolist()
        estimates = estimates_from_draws(np.mean(values, axis=0), np.mean(draws, axis=0), counts)
        results.append(
            ProcessBenchResult(AVERAGE, our_results[0].rule, None, *estimates, prm=prm, minus=minus)
        )
    return results


def _values(result: ProcessBenchResult) -> Floats:
    return np.array([result.f1.value, result.error_accuracy.value, result.correct_accuracy.value])


def _draws(ours: Bools, theirs: Bools, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return samples [D] of the posterior of two accuracies on the same rows.

    A row is right for both PRMs, for one or for none. The shares of these four kinds are sampled from
    Dirichlet(k + 1/4), so each accuracy alone has the posterior of a single PRM, Beta(k + 1/2, n - k + 1/2).
    """
    if not len(ours):
        return np.full(DRAWS, np.nan), np.full(DRAWS, np.nan)
    counts = [(ours & theirs).sum(), (ours & ~theirs).sum(), (~ours & theirs).sum(), (~ours & ~theirs).sum()]
    both, first, second, _ = rng.dirichlet(np.array(counts) + 0.25, DRAWS).T
    return both + first, both + second
