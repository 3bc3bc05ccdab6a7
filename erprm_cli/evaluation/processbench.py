"""ProcessBench (arXiv 2412.06559): does a PRM find the first wrong step of a solution?

A row has `steps` and `label`, the 0-based index of the first wrong step, or -1 if all are right. A PRM
predicts the first step whose score is below a threshold, or -1 if there is none. The results are the accuracy
on rows with an error, the accuracy on correct rows, and F1, their harmonic mean. The average over splits
gives every split the same weight.

Shapes: T thresholds, D draws.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from erprm_cli.errors import RowError, UsageError
from erprm_cli.evaluation.arrays import Bools, Floats, Ints
from erprm_cli.evaluation.intervals import Estimate
from erprm_cli.hashing import digest
from erprm_cli.io.reading import read_rows
from erprm_cli.prm.scoring import NO_SCORES
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row

THRESHOLD = 0.5
AVERAGE = "average"
DRAWS = 20_000  # from the posterior; the ends of an interval vary by about 3 % of its width


def check_scored_row(row: Row) -> Row:
    """Check a row of ProcessBench with `scores`, one per step."""
    if schema.check_processbench(row).get("scores") is None:
        raise RowError(NO_SCORES)
    schema.check_numbers(row["scores"], "'scores'", 0.0, 1.0)
    if len(row["scores"]) != len(row["steps"]):
        raise RowError(f"'scores' has {len(row['scores'])} numbers for {len(row['steps'])} steps")
    return row


def split_name(row: Row, source: str) -> str:
    """Return the split of a row: its field `split`, or else the name of its file."""
    name = row.get("split")
    return name if isinstance(name, str) else "stdin" if source == "-" else Path(source).name.split(".")[0]


def check_split(name: str, sources: Sequence[str], limit: int | None = None) -> None:
    """Raise UsageError unless some row of the files `sources` is of the split `name`. Pipes are not read."""
    if all(Path(source).is_file() for source in sources):
        names = {
            split_name(row, source) for source in sources for row in read_rows(source, dict, limit=limit)
        }
        if names and name not in names:
            raise no_split(name, sorted(names))


def no_split(name: str, names: Sequence[str]) -> UsageError:
    """Return the error for a split `name` that is not among `names`."""
    return UsageError(f"no split {name!r} to tune on; splits: {', '.join(names)}")


class Hit(NamedTuple):
    """The thresholds in (low, high] for which the prediction is right; none if low >= high."""

    low: float
    high: float


def hit(scores: Sequence[float], label: int) -> Hit:
    """Return the thresholds for which the first score below is that of step `label` (-1: no score is below).

    >>> hit([0.9, 0.4, 0.7], 1), hit([0.9, 0.4, 0.7], -1)
    (Hit(low=0.4, high=0.9), Hit(low=-inf, high=0.4))
    """
    if label < 0:
        return Hit(-np.inf, min(scores))
    return Hit(scores[label], min(scores[:label], default=np.inf))


@dataclass(slots=True)
class Split:
    """The rows of one split; those with an error and the correct ones are counted separately."""

    name: str
    wrong: list[Hit] = field(default_factory=list)
    right: list[Hit] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a scored row."""
        kind = self.right if row["label"] < 0 else self.wrong
        kind.append(hit(row["scores"], row["label"]))

    @property
    def counts(self) -> tuple[int, int, int]:
        """The number of rows, of rows with an error, and of correct rows."""
        return len(self.wrong) + len(self.right), len(self.wrong), len(self.right)

    def hits(self, thresholds: ArrayLike) -> tuple[Ints, Ints]:
        """Return [T] each, how many rows with an error and how many correct rows a threshold gets right."""
        return _hits(self.wrong, thresholds), _hits(self.right, thresholds)

    def outcomes(self, threshold: float) -> tuple[Bools, Bools]:
        """Return for each row with an error, and for each correct row, whether a threshold gets it right."""
        wrong, right = (
            np.array([low < threshold <= high for low, high in hits], dtype=bool)
            for hits in (self.wrong, self.right)
        )
        return wrong, right

    def f1(self, thresholds: ArrayLike) -> Floats:
        """Return [T], F1 at each threshold; NaN without rows with an error or without correct rows."""
        found, passed = self.hits(thresholds)
        if not self.wrong or not self.right:
            return np.full(found.shape, np.nan)
        return harmonic_mean(found / len(self.wrong), passed / len(self.right))

    def best_threshold(self) -> float:
        """Return the threshold with the highest F1; of equal ones, the nearest to 0.5.

        One threshold between each two neighbouring scores is tried; others give the same predictions.
        """
        ends = np.unique([end for ends in (*self.wrong, *self.right) for end in ends])
        ends = ends[np.isfinite(ends)]
        if not len(ends):
            return THRESHOLD
        middle = (ends[:-1] + ends[1:]) / 2
        within = np.where(middle > ends[:-1], middle, ends[1:])  # the higher, if no float lies between
        candidates = np.concatenate([ends[:1], within, [np.nextafter(ends[-1], np.inf), THRESHOLD]])
        f1 = np.nan_to_num(self.f1(candidates))
        best = candidates[f1 == f1.max()]
        return float(best[abs(best - THRESHOLD).argmin()])


def _hits(hits: Sequence[Hit], thresholds: ArrayLike) -> Ints:
    proper = [one for one in hits if one.low < one.high]
    low, high = np.sort(np.array(proper, dtype=np.float64).reshape(-1, 2), axis=0).T
    return np.searchsorted(low, thresholds, "left") - np.searchsorted(high, thresholds, "left")


def harmonic_mean(first: ArrayLike, second: ArrayLike) -> Floats:
    """Return 2 a b / (a + b), and 0 where both are 0."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return np.asarray(2 * a * b / np.where(a + b > 0, a + b, 1))


@dataclass(frozen=True, slots=True)
class ProcessBenchResult:
    """F1 and the two accuracies of a split, or their averages over splits, with 95 % intervals.

    With `minus`, they are the differences between the PRMs `prm` and `minus`.
    """

    split: str
    rule: str  # how the threshold was chosen
    threshold: float | None  # None: every split, or each of two PRMs, has its own
    f1: Estimate
    error_accuracy: Estimate
    correct_accuracy: Estimate
    _: KW_ONLY
    prm: str | None = None
    minus: str | None = None

    def row(self) -> Row:
        """Return the result as a row."""
        row: Row = {"split": self.split, "prm": self.prm, "minus": self.minus}
        row |= {"rule": self.rule, "threshold": self.threshold}
        for name in ("f1", "error_accuracy", "correct_accuracy"):
            estimate: Estimate = getattr(self, name)
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        row["with_error"], row["without_error"] = self.error_accuracy.problems, self.correct_accuracy.problems
        return row


def evaluate(
    splits: Sequence[Split],
    threshold: float = THRESHOLD,
    tune_on: str | None = None,
    oracle: bool = False,
    prm: str | None = None,
) -> list[ProcessBenchResult]:
    """Return the result of the PRM called `prm` on each split, and their average if there are several.

    `threshold` is used, or the best one on the split `tune_on`, or with `oracle` the best one of each split,
    which is an upper bound. Raises UsageError if there is no split `tune_on`.
    """
    names = [split.name for split in splits]
    if tune_on is not None:
        if tune_on not in names:
            raise no_split(tune_on, names)
        threshold = splits[names.index(tune_on)].best_threshold()
    rule = "oracle" if oracle else "fixed" if tune_on is None else f"tuned on {tune_on}"
    rng = np.random.default_rng(0)
    results, values, draws = [], [], []
    for split in splits:
        at = split.best_threshold() if oracle else threshold
        value, drawn = _with_draws(split, at, rng)
        estimates = estimates_from_draws(value, drawn, split.counts)
        results.append(ProcessBenchResult(split.name, rule, at, *estimates, prm=prm))
        values.append(value)
        draws.append(drawn)
    if len(splits) > 1:
        counts = np.sum([split.counts for split in splits], axis=0).tolist()
        estimates = estimates_from_draws(np.mean(values, axis=0), np.mean(draws, axis=0), counts)
        results.append(ProcessBenchResult(AVERAGE, rule, None if oracle else threshold, *estimates, prm=prm))
    return results


def _with_draws(split: Split, threshold: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return F1 and the two accuracies [3] at a threshold, and samples [D, 3] of their posterior.

    Accuracies are sampled from Beta(k + 1/2, n - k + 1/2) for k right of n: Jeffreys's interval, which covers
    as close to 95 % as Wilson's (Brown, Cai, DasGupta 2001), and F1 and averages are computed from samples.
    """
    value, drawn = [], []
    for hits, count in zip(split.hits([threshold]), split.counts[1:], strict=True):
        k = int(hits[0])
        value.append(k / count if count else np.nan)
        drawn.append(rng.beta(k + 0.5, count - k + 0.5, DRAWS) if count else np.full(DRAWS, np.nan))
    return np.array([harmonic_mean(*value), *value]), np.stack([harmonic_mean(*drawn), *drawn], axis=1)


def estimates_from_draws(value: Floats, draws: Floats, counts: Sequence[int]) -> list[Estimate]:
    """Return F1 and the two accuracies [3] with the middle 95 % of the draws [D, 3]."""
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return [
        Estimate(float(v), float(min(lo, v)), float(max(hi, v)), n)  # values of 0 and 1 are in their interval
        for v, lo, hi, n in zip(value, low, high, counts, strict=True)
    ]


def row_key(row: Row) -> bytes:
    """Return what tells whether two rows are the same but for their scores."""
    return digest(row.get("id"), row["problem"], row["steps"], row["label"])


class Splits:
    """Collects scored rows by split, in the order in which splits appear."""

    def __init__(self, source: str = "-") -> None:
        """Start without rows; `source` is where they come from, for a PRM that they do not name."""
        self.source = source
        self.prm: str | None = None  # that produced the scores, if rows name it
        self.keys: list[tuple[str, bytes]] = []  # the split and the content of each row
        self._by_name: dict[str, Split] = {}

    def add(self, row: Row, source: str) -> str:
        """Add a scored row from the file `source`; return the name of its split."""
        name = split_name(row, source)
        self._by_name.setdefault(name, Split(name)).add(row)
        self.keys.append((name, row_key(row)))
        if self.prm is None and isinstance(row.get("prm"), str):
            self.prm = row["prm"]
        return name

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.keys)

    def all(self) -> list[Split]:
        """Return the splits."""
        return list(self._by_name.values())
