"""Rows of other projects, turned into rows of erprm as they are read."""

from collections import Counter
from collections.abc import Collection, Iterable

from erprm_cli import hashing
from erprm_cli.data_formats.readers import Context
from erprm_cli.data_formats.registry import BY_NAME, DataFormat, detect_format
from erprm_cli.errors import RowError
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import without_end_space
from erprm_cli.terminal.reporter import Reporter

UNKNOWN = ("prediction", "reward", "finish_reason", "num_tokens", "sampling")  # null if the row does not say
LABELS = ("labels", "eta", "estimator")
# The fields of erprm, in order; all other fields come between `answer` and `sample`.
FIRST = ("id", "problem", "answer")
THINKING = ("reasoning", "steps_of")  # only in rows of thinking models
LATER = ("sample", *THINKING, "solution", "steps", *UNKNOWN, "rollouts", "completions", *LABELS)
LAST = ("scores", "prm", "model_reward")
FIELDS = frozenset((*FIRST, *LATER, *LAST))
KEPT = {"processbench": ("label",)}  # fields that are read and kept as well


class ForeignRows:
    """Turns rows of any known format into rows of erprm, one at a time, and counts them for the summary.

    To number the samples, one counter per problem stays in memory.
    """

    def __init__(self, name: str | None = None, problems: Collection[str] = ()) -> None:
        """Read rows of the format `name` (default: detected per row) and texts that begin with `problems`."""
        self.data_format = BY_NAME.get(name) if name else None
        self.context = Context(problems)
        self.read: Counter[str] = Counter()
        self._samples: dict[str, int] = {}

    def __call__(self, row: Row) -> Iterable[Row]:
        """Return the rows of erprm for `row`: the row itself if it is one, or if its format is unknown."""
        if "sample" in row and "steps" in row:
            return (row,)
        data_format = self.data_format or detect_format(row)
        return (row,) if data_format is None else self.of_format(row, data_format)

    def of_format(self, row: Row, data_format: DataFormat) -> list[Row]:
        """Return the rows of erprm for a row of `data_format`. Raises RowError if the row is invalid."""
        try:
            missing = [name for name in data_format.fields if name not in row]
            if missing:
                raise RowError(f"no '{missing[0]}'; rows have {', '.join(data_format.fields)}")
            solutions = data_format.read(row, self.context)
            taken = {*data_format.fields, *data_format.optional} - {*KEPT.get(data_format.name, ())}
            rest = {name: value for name, value in row.items() if name not in taken}
            rows = [self._completed(found, rest) for found in solutions]
        except RowError as error:
            raise RowError(f"{data_format.name}: {error}") from None
        self.read[data_format.name] += 1
        return rows

    def summary(self) -> str:
        """Return how many rows of each format were read."""
        return ", ".join(f"{count:,} rows of {name}" for name, count in self.read.items())

    def report(self, reporter: Reporter) -> None:
        """Report which formats were read, with a warning for each note."""
        if self.read:
            reporter.info(f"read {self.summary()}")
        for line in self.notes():
            reporter.warn(line)

    def notes(self) -> list[str]:
        """Return what a user should know about the rows that were read, one line each."""
        return [f"{count:,} {what}" for what, count in self.context.notes.items() if count]

    def _completed(self, found: Row, rest: Row) -> Row:
        """Return the complete row; `rest`, the other fields, adds those that `erprm convert --keep` wrote."""
        if "sample" in rest:  # written with --keep, so more exact than what the format stores
            names = FIELDS - {"problem", "steps", "labels"}
            if rest.get("steps_of") == "reasoning":  # the text of the steps, where the format stores it
                found = found | {"reasoning": found["solution"]}
            found = found | {name: rest[name] for name in names if name in rest}
        answer = found.get("answer", rest.get("answer"))
        id_ = found.get("id", rest.get("id"))
        row: Row = {
            "id": hashing.content_hash(found["problem"]) if id_ is None else str(id_),
            "problem": found["problem"],
            "answer": answer if isinstance(answer, str | None) else str(answer),
        }
        if "sample" not in rest:
            for name in rest:
                if name in FIELDS - {"id", "answer", "problem", "steps"}:
                    self.context.notes[f"rows had another field called '{name}', which was left out"] += 1
        row |= {name: value for name, value in rest.items() if name not in FIELDS}
        row |= {name: value for name, value in found.items() if name not in FIELDS}
        sample = found.get("sample")
        if sample is None:
            sample = self._samples.get(row["id"], 0)
            self._samples[row["id"]] = sample + 1
        row |= {"sample": sample} | {name: found[name] for name in THINKING if name in found}
        row |= {"solution": found["solution"], "steps": without_end_space(found["steps"])}
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
