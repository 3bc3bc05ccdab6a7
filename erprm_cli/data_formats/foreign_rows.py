"""Rows of other projects, turned into erprm's as they are read."""

from collections import Counter
from collections.abc import Collection, Iterable

from erprm_cli import hashing
from erprm_cli.data_formats.readers import Known
from erprm_cli.data_formats.registry import BY_NAME, Format, format_of
from erprm_cli.errors import RowError
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter

UNKNOWN = ("prediction", "reward", "finish_reason", "num_tokens", "sampling")  # null where no one tells
LABELS = ("labels", "eta", "estimator")
# Our fields, in our order; a format's own and unknown ones stand between `answer` and `sample`.
FIRST = ("id", "problem", "answer")
LATER = ("sample", "solution", "steps", *UNKNOWN, "rollouts", "completions", *LABELS)
LAST = ("scores", "prm", "model_reward")
KEPT = {"processbench": ("label",)}  # taken up, and a field in its own right all the same


class ForeignRows:
    """Turns rows of any known format into ours, one at a time, and counts for the summary.

    `sample` is counted: one number for each problem stays in memory.
    """

    def __init__(self, name: str | None = None, problems: Collection[str] = ()) -> None:
        """Read rows of the format `name`, or of each that is recognised; texts may begin with `problems`."""
        self.form = BY_NAME.get(name) if name else None
        self.known = Known(problems)
        self.read: Counter[str] = Counter()
        self._samples: dict[str, int] = {}

    def __call__(self, row: Row) -> Iterable[Row]:
        """Return the rows of ours that `row` stands for: itself, if it is ours or of no known format."""
        if "sample" in row and "steps" in row:
            return (row,)
        form = self.form or format_of(row)
        return (row,) if form is None else self.of_format(row, form)

    def of_format(self, row: Row, form: Format) -> list[Row]:
        """Return our rows of a row of `form`; RowError if it is none, or is dirty."""
        try:
            missing = [name for name in form.fields if name not in row]
            if missing:
                raise RowError(f"no '{missing[0]}'; rows have {', '.join(form.fields)}")
            solutions = form.read(row, self.known)
            taken = {*form.fields, *form.optional} - {*KEPT.get(form.name, ())}
            rest = {name: value for name, value in row.items() if name not in taken}
            rows = [self._completed(found, rest) for found in solutions]
        except RowError as error:
            raise RowError(f"{form.name}: {error}") from None
        self.read[form.name] += 1
        return rows

    def summary(self) -> str:
        """Return how many rows of which formats were read."""
        return ", ".join(f"{count:,} rows of {name}" for name, count in self.read.items())

    def tell(self, reporter: Reporter) -> None:
        """Say which formats were read, and what was done with them that a person should know."""
        if self.read:
            reporter.info(f"read {self.summary()}")
        for line in self.notes():
            reporter.warn(line)

    def notes(self) -> list[str]:
        """Return what a person should know of what was read, a line each."""
        return [f"{count:,} {what}" for what, count in self.known.notes.items() if count]

    def _completed(self, found: Row, rest: Row) -> Row:
        """Return the row with every field of its kind; what `rest` has of ours goes in if we wrote it."""
        if "sample" in rest:  # written by us with --keep: it knows better than what the format can say
            names = {*FIRST, *LATER, *LAST} - {"problem", "steps", "labels"}
            found = found | {name: rest[name] for name in names if name in rest}
        answer = found.get("answer", rest.get("answer"))
        id_ = found.get("id", rest.get("id"))
        row: Row = {
            "id": hashing.content_hash(found["problem"]) if id_ is None else str(id_),
            "problem": found["problem"],
            "answer": answer if isinstance(answer, str | None) else str(answer),
        }
        ours = {*FIRST, *LATER, *LAST}
        replaced = [name for name in rest if name in ours - {"id", "answer", "problem", "steps"}]
        if "sample" not in rest:
            for name in replaced:
                self.known.notes[f"rows had a field '{name}' of their own, which was left out"] += 1
        row |= {name: value for name, value in rest.items() if name not in ours}
        row |= {name: value for name, value in found.items() if name not in ours}
        sample = found.get("sample")
        if sample is None:
            sample = self._samples.get(row["id"], 0)
            self._samples[row["id"]] = sample + 1
        row |= {"sample": sample, "solution": found["solution"], "steps": found["steps"]}
        row |= {name: found.get(name) for name in UNKNOWN}
        row |= {name: found[name] for name in ("rollouts", "completions") if name in found}
        if "labels" in found:
            row |= {name: found.get(name) for name in LABELS}
            schema.check_labels(row)
        else:
            schema.check_solution(row)
        if "scores" in found:
            row |= {"scores": found["scores"], "prm": found.get("prm")}
        if "model_reward" in found:
            row["model_reward"] = found["model_reward"]
        return row
