"""Conversion of rows of any known format to rows of erprm, and of rows of erprm to another format."""

from collections import Counter
from collections.abc import Collection, Iterable

from erprm_cli import hashing
from erprm_cli.data_formats import writers
from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.foreign_rows import FIELDS, ForeignRows
from erprm_cli.data_formats.problems import as_problem, is_worked
from erprm_cli.data_formats.registry import (
    BY_NAME,
    ERPRM,
    PROBLEM,
    PROBLEM_NAMES,
    SOLUTION_LISTS,
    SOLUTIONS,
    detect_dump,
    detect_format,
)
from erprm_cli.errors import RowError, UsageError
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import without_end_space

# Fields of a problem that may hold solutions, which nobody would find in a row of a problem.
MAYBE_SOLUTIONS = (*SOLUTION_LISTS, *SOLUTIONS, "code", "program", "solutions", "candidates", "samples")


class Converter:
    """Converts rows from one format to another by way of erprm's own, and counts what is lost."""

    def __init__(
        self,
        source: str | None = None,
        target: str = ERPRM,
        threshold: float | None = None,
        keep: bool = False,
        problems: Collection[str] = (),
        names: FieldNames | None = None,
    ) -> None:
        """Convert from the format `source` (default: detected per row) to `target`.

        Labels at or above `threshold` become "yes" in formats that store only yes and no. With `keep`,
        fields of erprm for which the target has no place are added to its rows. Texts may begin with one of
        `problems`; `names` finds fields under other names.
        """
        self.source = source
        self.target = BY_NAME.get(target)
        self.threshold = threshold
        self.keep = keep
        self.names = names or FieldNames()
        self.foreign = ForeignRows(source, problems, self.names)
        self.lost: Counter[str] = Counter()  # rows per field that was left out
        self.unmarked_rows = 0  # rows in which the end of the problem is lost
        self.rounded = self.rounded_rows = 0  # labels, and rows with such labels

    def expand(self, row: Row) -> Iterable[Row]:
        """Return the rows of erprm for a row of any known format, problems included.

        A row that may hold solutions nobody would find in a problem is refused.
        """
        if self.source == PROBLEM:
            return (as_problem(row, self.names),)
        row = self.names.renamed(row)
        if self.source == ERPRM or ("sample" in row and "steps" in row):
            return (self.foreign.completed(row),)
        data_format = self.foreign.data_format or detect_format(row)
        if data_format is None and not is_worked(row, "response"):  # MetaMathQA's is a worked solution
            data_format = detect_dump(row)
        if data_format is not None:
            return self.foreign.of_format(row, data_format)
        if "steps" in row or "solution" in self.names.given:
            return (self.foreign.completed(row),)
        if any(name in row for name in PROBLEM_NAMES):
            for name in MAYBE_SOLUTIONS:
                if row.get(name) and not (name == "response" and is_worked(row, name)):
                    raise RowError(
                        f"a problem whose '{name}' may hold solutions: --field solution={name} reads one, "
                        "--from problem keeps the field as it is"
                    )
            return (as_problem(row, self.names),)
        raise RowError(f"no known format has the fields {', '.join(row)}; name the format with --from FORMAT")

    def __call__(self, row: Row) -> Row:
        """Return a row of erprm as a row of the target; RowError if it is invalid."""
        if self.target is None and "sample" not in row:
            return as_problem(row)
        check = schema.check_solution if self.target is None else schema.check_labels
        row = check(row) | {"steps": without_end_space(row["steps"])}
        if self.target is None:
            return row
        _check_all_labelled(row, self.target.name)
        assert self.target.write is not None
        labels = self._rounded(row["labels"]) if self.target.binary_labels else row["labels"]
        made = self.target.write(row, labels)
        return made | self._rest(row, made)

    def notes(self) -> list[str]:
        """Return what a user should know about the conversion, one line each."""
        notes = self.foreign.notes()
        if self.rounded:
            notes.append(
                f"{self.rounded:,} labels in {self.rounded_rows:,} rows were rounded at {self.threshold:g}"
            )
        name = self.target.name if self.target else ERPRM
        by_count: dict[int, list[str]] = {}
        for field, count in self.lost.items():
            by_count.setdefault(count, []).append(repr(field))
        remedy = "" if self.keep else " (--keep adds them)"
        for count, fields in by_count.items():
            notes.append(f"{name} has no place for {', '.join(fields)}: left out of {count:,} rows{remedy}")
        if self.unmarked_rows:
            notes.append(
                f"{name} does not mark where the problem ends in {self.unmarked_rows:,} rows "
                "(--keep adds the problem)"
            )
        return notes

    def _rounded(self, labels: list[float]) -> list[float]:
        soft = sum(0 < label < 1 for label in labels)
        if not soft:
            return labels
        assert self.target is not None
        if self.threshold is None:
            raise UsageError(
                f"{self.target.name} stores only yes or no for a step, but labels are soft; --threshold 0.5 "
                "rounds them"
            )
        self.rounded += soft
        self.rounded_rows += 1
        return [1.0 if label >= self.threshold else 0.0 for label in labels]

    def _rest(self, row: Row, made: Row) -> Row:
        """Return the fields of `row` to add to those of the target; count the others as lost."""
        target = self.target
        assert target is not None
        stored = {"steps", "labels"} | ({"problem"} if target.marks_problem_end else set())
        if not target.marks_problem_end and not self.keep and not writers.marks_problem_end(row):
            self.unmarked_rows += 1
        rest: Row = {}
        stepped = "reasoning" if row.get("steps_of") == "reasoning" else "solution"
        for name, value in row.items():
            if name in stored or (name == stepped and target.keeps_gaps):
                continue
            if name in made:
                if (name not in target.fields or value is not None) and value != made[name]:
                    self.lost[name] += 1
            elif name not in FIELDS or self.keep:
                rest[name] = value
            elif name not in ("problem", "sample"):
                derived = {"id": hashing.content_hash(row["problem"]), stepped: "\n".join(row["steps"])}
                if value is not None and value != derived.get(name):
                    self.lost[name] += 1
        return rest


def _check_all_labelled(row: Row, target: str) -> None:
    """Raise RowError if a step has no label: no written format has a place for that."""
    missing = [step for step, label in enumerate(row["labels"]) if label is None]
    if missing:
        raise RowError(
            f"'labels[{missing[0]}]' (counted from 0) is null, and {target} needs a label for every step; "
            "`erprm rollout` without --steps bisect makes them all"
        )
