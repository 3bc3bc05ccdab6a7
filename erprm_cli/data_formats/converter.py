"""Rows of any known format to rows of erprm, and rows of erprm to another format."""

from collections import Counter
from collections.abc import Collection, Iterable

from erprm_cli import hashing
from erprm_cli.data_formats import writers
from erprm_cli.data_formats.foreign_rows import FIRST, LAST, LATER, ForeignRows
from erprm_cli.data_formats.problems import PROBLEM_NAMES, as_problem
from erprm_cli.data_formats.registry import BY_NAME, ERPRM, PROBLEM, format_of
from erprm_cli.errors import RowError, UsageError
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row


class Converter:
    """Rows of one format to those of another, by way of ours; counts what is lost on the way."""

    def __init__(
        self,
        source: str | None = None,
        target: str = ERPRM,
        threshold: float | None = None,
        keep: bool = False,
        problems: Collection[str] = (),
    ) -> None:
        """Convert from the format `source` (or each that is recognised) to `target`.

        With `threshold`, a label of at least that is yes in a format of yes and no. With `keep`, fields of
        ours that the target has no place for stand beside its own.
        """
        self.source = source
        self.target = BY_NAME.get(target)
        self.threshold = threshold
        self.keep = keep
        self.foreign = ForeignRows(source, problems)
        self.lost: Counter[str] = Counter()
        self.rounded = self.rounded_rows = 0

    def expand(self, row: Row) -> Iterable[Row]:
        """Return our rows of a row of any known format, problems included."""
        if self.source == PROBLEM:
            return (as_problem(row),)
        if self.source == ERPRM or ("sample" in row and "steps" in row):
            return (row,)
        form = self.foreign.form or format_of(row)
        if form is not None:
            return self.foreign.of_format(row, form)
        if any(name in row for name in PROBLEM_NAMES):
            return (as_problem(row),)
        raise RowError(
            f"no known format has just these fields: {', '.join(row)}; --from FORMAT says which it is"
        )

    def __call__(self, row: Row) -> Row:
        """Return a row of ours as one of the target."""
        if self.target is None:
            return schema.check_solution(row) if "sample" in row else as_problem(row)
        assert self.target.write is not None
        schema.check_labels(row)
        labels = self._rounded(row["labels"]) if self.target.yes_or_no else row["labels"]
        made = self.target.write(row, labels)
        return made | self._rest(row, made)

    def report(self) -> list[str]:
        """Return what a person should know of the conversion, a line each."""
        lines = self.foreign.notes()
        if self.rounded:
            lines.append(
                f"{self.rounded:,} labels in {self.rounded_rows:,} rows were rounded at {self.threshold:g}"
            )
        name = self.target.name if self.target else ERPRM
        by_count: dict[int, list[str]] = {}
        for what, count in self.lost.items():
            by_count.setdefault(count, []).append(what)
        remedy = "" if self.keep else "; --keep writes what is ours beside its own"
        lines += [
            f"{name} cannot carry {', '.join(what)} ({n:,} rows){remedy}" for n, what in by_count.items()
        ]
        return lines

    def _rounded(self, labels: list[float]) -> list[float]:
        between = sum(0 < label < 1 for label in labels)
        if not between:
            return labels
        assert self.target is not None
        if self.threshold is None:
            raise UsageError(
                f"{self.target.name} says yes or no of a step, and these labels are soft; "
                "--threshold 0.5 rounds them"
            )
        self.rounded += between
        self.rounded_rows += 1
        return [1.0 if label >= self.threshold else 0.0 for label in labels]

    def _rest(self, row: Row, made: Row) -> Row:
        """Return the fields of `row` that go beside those of the target; count the others as lost."""
        form = self.target
        assert form is not None
        carried = {"steps", "labels"} | ({"problem"} if form.tells_problem else set())
        ours = {*FIRST, *LATER, *LAST}
        if not form.tells_problem and not self.keep and not writers.tells_problem(row):
            self.lost["where the problem ends"] += 1
        rest: Row = {}
        for name, value in row.items():
            if name in carried or (name == "solution" and form.gaps):
                continue
            if name in made:
                if name not in form.fields or value is not None:
                    self._lose(name, value, made)
            elif name not in ours or self.keep:
                rest[name] = value
            elif name not in ("problem", "sample"):
                derived = {"id": hashing.content_hash(row["problem"]), "solution": "\n".join(row["steps"])}
                if value is not None and value != derived.get(name):
                    self.lost[f"'{name}'"] += 1
        return rest

    def _lose(self, name: str, value: object, made: Row) -> None:
        if value != made[name]:
            self.lost[f"'{name}'"] += 1
