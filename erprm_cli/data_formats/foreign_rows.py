"""Rows that people bring, turned into rows of erprm as they are read."""

from collections import Counter
from collections.abc import Collection, Iterable

from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.problems import final_answer, identity
from erprm_cli.data_formats.readers import Context, paragraphs
from erprm_cli.data_formats.registry import BY_NAME, DataFormat, detect_dump, detect_format
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

    Rows of erprm that lack what can be derived are completed. To number the samples, one counter per problem
    stays in memory.
    """

    def __init__(
        self,
        name: str | None = None,
        problems: Collection[str] = (),
        names: FieldNames | None = None,
        split_steps: bool = True,
    ) -> None:
        """Read rows of the format `name` (default: detected per row) and texts that begin with `problems`.

        `names` finds fields under other names. With `split_steps`, a solution of erprm without steps is split
        into its paragraphs, or into its lines if there is only one.
        """
        self.data_format = BY_NAME.get(name) if name else None
        self.context = Context(problems)
        self.names = names or FieldNames()
        self.split_steps = split_steps
        self.read: Counter[str] = Counter()
        self._samples: dict[str, int] = {}

    def __call__(self, row: Row) -> Iterable[Row]:
        """Return the rows of erprm for `row`: the row itself, completed, if its format is unknown."""
        row = self.names.renamed(row)
        if "sample" in row and "steps" in row:
            return (self.completed(row),)
        data_format = self.data_format or detect_format(row) or detect_dump(row)
        return (self.completed(row),) if data_format is None else self.of_format(row, data_format)

    def completed(self, row: Row) -> Row:
        """Return a row of erprm with those of its missing fields that can be derived from the others."""
        found: Row = {}
        others = {name: self.names.find(row, name) for name in ("problem", "answer") if name not in row}
        for name, other in others.items():
            if other != name:
                found[name] = row[other] if name == "problem" else final_answer(row, other)
        problem = row.get("problem", found.get("problem"))
        if not isinstance(row.get("id"), str) and (id_ := identity(row, self.names, problem)) is not None:
            found["id"] = id_
        solution, steps = row.get("solution"), row.get("steps")
        if self.split_steps and steps is None and isinstance(solution, str):
            found["steps"] = paragraphs(solution)
        elif (
            "solution" not in row and isinstance(steps, list) and all(isinstance(step, str) for step in steps)
        ):
            found["solution"] = "\n".join(steps)
        if not found and row.get("sample") is not None:
            return row
        if row.get("sample") is None and (solution is not None or steps is not None):
            found["sample"] = self._next_sample(row | found)
        self.names.note_read((other, name) for name, other in others.items())
        self.names.note_derived(name for name in found if row.get(name) is None and name not in others)
        return row | found

    def _next_sample(self, row: Row) -> int:
        """Return the number of a solution that has none: how many such solutions its problem had before."""
        sample = self._samples.get(id_ := str(row.get("id")), 0)
        self._samples[id_] = sample + 1
        return sample

    def of_format(self, row: Row, data_format: DataFormat) -> list[Row]:
        """Return the rows of erprm for a row of `data_format`. Raises RowError if the row is invalid."""
        try:
            missing = [name for name in data_format.fields if name not in row]
            if missing:
                told = ", ".join(f"no '{name}'" for name in missing)
                raise RowError(f"{told}; rows have {', '.join(data_format.fields)}")
            solutions = data_format.read(row, self.context)
            taken = {*data_format.fields, *data_format.optional} - {*KEPT.get(data_format.name, ())}
            rest = {name: value for name, value in row.items() if name not in taken}
            rows = [self._completed(found, rest) for found in solutions]
        except RowError as error:
            raise RowError(error, where=data_format.name) from None
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
        told, gold = (found, "answer") if "answer" in found else (rest, self.names.find(rest, "answer"))
        row: Row = {
            "id": identity({"id": found.get("id", rest.get("id"))}, self.names, found["problem"]),
            "problem": found["problem"],
            "answer": final_answer(told, gold),
        }
        self.names.note_read([(gold, "answer")])
        if "sample" not in rest:
            for name in rest:
                if name in FIELDS - {"id", "answer", "problem", "steps"}:
                    self.context.notes[f"rows had another field called '{name}', which was left out"] += 1
        row |= {name: value for name, value in rest.items() if name not in FIELDS}
        row |= {name: value for name, value in found.items() if name not in FIELDS}
        sample = found.get("sample")
        row["sample"] = self._next_sample(row) if sample is None else sample
        row |= {name: found[name] for name in THINKING if name in found}
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
