"""Everyone's data: rows of other projects to ours and back, by the fields they have.

Our rows are the pivot. A foreign row becomes one row of ours for each solution in it: `id` is a hash of the
problem where none is given, `sample` counts the solutions of a problem. A field that has no place in ours is
kept, so that the way back finds it again. `FORMATS` says which formats there are and what each cannot hold.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from erprm_cli import records
from erprm_cli.data_formats import readers, writers
from erprm_cli.data_formats.readers import Known, Reader
from erprm_cli.data_formats.writers import Writer
from erprm_cli.errors import RowError, UsageError
from erprm_cli.jsonl import Row
from erprm_cli.progress import News

ERPRM, PROBLEM = "erprm", "problem"
UNKNOWN = ("prediction", "reward", "finish_reason", "num_tokens", "sampling")  # null where no one tells
LABELS = ("labels", "eta", "estimator")
# Our fields, in our order; a format's own and unknown ones stand between `answer` and `sample`.
FIRST = ("id", "problem", "answer")
LATER = ("sample", "solution", "steps", *UNKNOWN, "rollouts", "completions", *LABELS)
LAST = ("scores", "prm", "model_reward")


@dataclass(frozen=True, slots=True)
class Format:
    """A format of others: its rows have all `fields`, and `consumed` are those that reading takes up."""

    name: str
    title: str
    fields: tuple[str, ...]
    read: Reader
    optional: tuple[str, ...] = ()
    write: Writer | None = None
    yes_or_no: bool = False  # whether labels are 0 or 1 alone
    gaps: bool = True  # whether it holds what the solution has between two steps
    tells_problem: bool = True  # whether the row alone tells where the problem ends
    holds: Callable[[Row], bool] = lambda row: True  # recognises a row that has the fields

    def recognises(self, row: Row) -> bool:
        return all(name in row for name in self.fields) and self.holds(row)

    def lacks(self) -> str:
        """Return what the format cannot carry, for people."""
        if self.write is None:
            return "not written"
        parts = ["labels between 0 and 1"] * self.yes_or_no
        parts += ["what stands between two steps"] * (not self.gaps)
        parts += ["where the problem ends, unless step 1 begins with 'Step 1:'"] * (not self.tells_problem)
        return "; ".join([*parts, "id, sample and what else is ours, but with --keep"])


FORMATS = (
    Format(
        "er-prm",
        "ER-PRM final",
        ("text", "value"),
        readers.er_prm,
        write=writers.er_prm,
        tells_problem=False,
    ),
    Format(
        "math-shepherd",
        "Math-Shepherd",
        ("input", "label"),
        readers.math_shepherd,
        write=writers.math_shepherd,
        yes_or_no=True,
        tells_problem=False,
    ),
    Format("openrlhf", "OpenRLHF's Math-Shepherd", ("input", "value"), readers.openrlhf),
    Format(
        "trl",
        "TRL stepwise supervision",
        ("prompt", "completions", "labels"),
        readers.trl,
        write=writers.trl,
        yes_or_no=True,
        gaps=False,
    ),
    Format(
        "rlhflow",
        "RLHFlow PRM data",
        ("conversations",),
        readers.rlhflow,
        write=writers.rlhflow,
        yes_or_no=True,
        gaps=False,
        tells_problem=False,
    ),
    Format(
        "rlhflow-test",
        "RLHFlow test sets",
        ("prompt", "answers", "label"),
        readers.rlhflow_test,
        optional=("step_scores",),
    ),
    Format("openr", "OpenR", ("question", "process", "label"), readers.openr),
    Format(
        "prm800k",
        "PRM800K",
        ("question", "label"),
        readers.prm800k,
        holds=lambda row: isinstance(row["question"], dict),
    ),
    Format("processbench", "ProcessBench", ("problem", "steps", "label"), readers.processbench),
    Format(
        "prmbench",
        "PRMBench",
        ("modified_question", "modified_process", "error_steps"),
        readers.prmbench,
    ),
    Format(
        "math-aps",
        "MATH-APS prefixes",
        ("question", "reasoning_steps"),
        readers.math_aps,
        optional=("final_answer",),
        holds=lambda row: isinstance(row["reasoning_steps"], list),
    ),
    Format(
        "math-aps-tree",
        "MATH-APS tree",
        ("reasoning_steps",),
        readers.math_aps_tree,
        optional=("question", "final_answer"),
        holds=lambda row: isinstance(row["reasoning_steps"], dict),
    ),
    Format("math-aps-node", "MATH-APS tree, bare", ("text", "mc_value", "children"), readers.math_aps_tree),
    Format("distilabel", "distilabel", ("instruction", "solutions"), readers.distilabel),
    Format("dump", "best-of-n dump", ("input", "output"), readers.dump, optional=("reward",)),
    Format("dump-list", "best-of-n dump", ("prompt", "responses"), readers.dump, optional=("rewards",)),
    Format("dump-chat", "best-of-n dump", ("messages",), readers.dump, optional=("reward",)),
)
BY_NAME = {form.name: form for form in FORMATS}
WRITTEN = tuple(form.name for form in FORMATS if form.write is not None)
KEPT = {"processbench": ("label",)}  # taken up, and a field in its own right all the same


def format_of(row: Row) -> Format | None:
    """Return the foreign format that a row has the fields of, or None."""
    return next((form for form in FORMATS if form.recognises(row)), None)


def table() -> str:
    """Return a Markdown table of the formats, for the README."""
    lines = [
        "| format | `--from`, `--to` | recognised by | written | cannot carry |",
        "|---|---|---|---|---|",
    ]
    for form in FORMATS:
        fields = ", ".join(f"`{name}`" for name in form.fields)
        written = "yes" if form.write else "no"
        lines.append(f"| {form.title} | `{form.name}` | {fields} | {written} | {form.lacks()} |")
    return "\n".join(lines)


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

    def tell(self, news: News) -> None:
        """Say which formats were read, and what was done with them that a person should know."""
        if self.read:
            news.say(f"read {self.summary()}")
        for line in self.notes():
            news.warn(line)

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
            "id": records.content_hash(found["problem"]) if id_ is None else str(id_),
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
            records.labels(row)
        else:
            records.solution(row)
        if "scores" in found:
            row |= {"scores": found["scores"], "prm": found.get("prm")}
        if "model_reward" in found:
            row["model_reward"] = found["model_reward"]
        return row


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
            return (records.problem(row),)
        if self.source == ERPRM or ("sample" in row and "steps" in row):
            return (row,)
        form = self.foreign.form or format_of(row)
        if form is not None:
            return self.foreign.of_format(row, form)
        if any(name in row for name in records.PROBLEM_NAMES):
            return (records.problem(row),)
        raise RowError(
            f"no known format has just these fields: {', '.join(row)}; --from FORMAT says which it is"
        )

    def __call__(self, row: Row) -> Row:
        """Return a row of ours as one of the target."""
        if self.target is None:
            return records.solution(row) if "sample" in row else records.problem(row)
        assert self.target.write is not None
        records.labels(row)
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
                derived = {"id": records.content_hash(row["problem"]), "solution": "\n".join(row["steps"])}
                if value is not None and value != derived.get(name):
                    self.lost[f"'{name}'"] += 1
        return rest

    def _lose(self, name: str, value: object, made: Row) -> None:
        if value != made[name]:
            self.lost[f"'{name}'"] += 1
