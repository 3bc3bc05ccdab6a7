"""The data formats of other projects, detected by the fields of their rows.

A foreign row becomes one row of ours for each solution in it: `id` is a hash of the problem if the row has
none, `sample` counts the solutions of a problem. Fields that our rows do not define are kept, so that they
can be written back. To add a format, add an entry to `FORMATS`, a reader and, if it is written too, a writer.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from erprm_cli.data_formats import readers, writers
from erprm_cli.data_formats.field_names import USUAL
from erprm_cli.data_formats.readers import Reader
from erprm_cli.data_formats.writers import Writer
from erprm_cli.rows.row import Row

ERPRM, PROBLEM = "erprm", "problem"
PROBLEM_NAMES = ("problem", *USUAL["problem"])
# Where dumps of other programs keep solutions.
SOLUTION_LISTS = (
    "completions",
    "responses",
    "outputs",
    "generations",
    "generated_solutions",
    "model_outputs",
)
SOLUTIONS = ("completion", "response", "output", "generation", "generated_solution", "model_output")


@dataclass(frozen=True, slots=True)
class DataFormat:
    """A format of another project. A row in it has all `fields` and perhaps the `optional` ones."""

    name: str
    title: str
    fields: tuple[str, ...]
    read: Reader
    optional: tuple[str, ...] = ()
    write: Writer | None = None
    binary_labels: bool = False  # labels are 0 or 1 only
    keeps_gaps: bool = True  # keeps the text between two steps
    marks_problem_end: bool = True  # the row alone shows where the problem ends
    fits: Callable[[Row], bool] = lambda row: True  # further check of a row that has all fields

    def matches(self, row: Row) -> bool:
        """Return whether a row is in this format."""
        return all(name in row for name in self.fields) and self.fits(row)

    def lacks(self) -> str:
        """Return what the format cannot store, for people."""
        if self.write is None:
            return "not written"
        parts = []
        if self.binary_labels:
            parts.append("labels between 0 and 1")
        if not self.keeps_gaps:
            parts.append("text between two steps")
        parts += ["where the problem ends, unless step 1 begins with 'Step 1:'"] * (
            not self.marks_problem_end
        )
        return "; ".join([*parts, "id, sample and other fields of erprm (--keep adds them)"])


FORMATS = (
    DataFormat(
        "er-prm",
        "ER-PRM final",
        ("text", "value"),
        readers.er_prm,
        write=writers.er_prm,
        marks_problem_end=False,
    ),
    DataFormat(
        "math-shepherd",
        "Math-Shepherd",
        ("input", "label"),
        readers.math_shepherd,
        write=writers.math_shepherd,
        binary_labels=True,
        marks_problem_end=False,
    ),
    DataFormat("openrlhf", "OpenRLHF's Math-Shepherd", ("input", "value"), readers.openrlhf),
    DataFormat(
        "trl",
        "TRL stepwise supervision",
        ("prompt", "completions", "labels"),
        readers.trl,
        write=writers.trl,
        binary_labels=True,
        keeps_gaps=False,
    ),
    DataFormat(
        "rlhflow",
        "RLHFlow PRM data",
        ("conversations",),
        readers.rlhflow,
        write=writers.rlhflow,
        binary_labels=True,
        keeps_gaps=False,
        marks_problem_end=False,
    ),
    DataFormat(
        "rlhflow-test",
        "RLHFlow test sets",
        ("prompt", "answers", "label"),
        readers.rlhflow_test,
        optional=("step_scores",),
    ),
    DataFormat("openr", "OpenR", ("question", "process", "label"), readers.openr),
    DataFormat(
        "prm800k",
        "PRM800K",
        ("question", "label"),
        readers.prm800k,
        fits=lambda row: isinstance(row["question"], dict),
    ),
    DataFormat("processbench", "ProcessBench", ("problem", "steps", "label"), readers.processbench),
    DataFormat(
        "prmbench",
        "PRMBench",
        ("modified_question", "modified_process", "error_steps"),
        readers.prmbench,
    ),
    DataFormat(
        "math-aps",
        "MATH-APS prefixes",
        ("question", "reasoning_steps"),
        readers.math_aps,
        optional=("final_answer",),
        fits=lambda row: isinstance(row["reasoning_steps"], list),
    ),
    DataFormat(
        "math-aps-tree",
        "MATH-APS tree",
        ("reasoning_steps",),
        readers.math_aps_tree,
        optional=("question", "final_answer"),
        fits=lambda row: isinstance(row["reasoning_steps"], dict),
    ),
    DataFormat(
        "math-aps-node", "MATH-APS tree, bare", ("text", "mc_value", "children"), readers.math_aps_tree
    ),
    DataFormat("distilabel", "distilabel", ("instruction", "solutions"), readers.distilabel),
    DataFormat("dump", "best-of-n dump", ("input", "output"), readers.dump, optional=("reward",)),
    DataFormat(
        "dump-list", "best-of-n dump", ("prompt", "responses"), readers.dump_list, optional=("rewards",)
    ),
    DataFormat("dump-chat", "best-of-n dump", ("messages",), readers.dump_chat, optional=("reward",)),
)
BY_NAME = {data_format.name: data_format for data_format in FORMATS}
WRITTEN = tuple(name for name, data_format in BY_NAME.items() if data_format.write is not None)


def detect_format(row: Row) -> DataFormat | None:
    """Return the first format that a row matches, or None."""
    return next((data_format for data_format in FORMATS if data_format.matches(row)), None)


def detect_dump(row: Row) -> DataFormat | None:
    """Return the format of a dump that has other names than those of FORMATS, or None if it is no dump.

    It has a problem, and a list of solutions or one solution, which is text.
    """
    problem = next((name for name in PROBLEM_NAMES if isinstance(row.get(name), str)), None)
    if problem is None or "solution" in row or "steps" in row:
        return None
    for name in SOLUTION_LISTS:
        if (
            isinstance(value := row.get(name), list)
            and value
            and all(isinstance(text, str) for text in value)
        ):
            read = partial(readers.dump_list, problem=problem, solutions=name)
            return replace(BY_NAME["dump-list"], fields=(problem, name), read=read)
    for name in SOLUTIONS:
        if isinstance(row.get(name), str):
            read = partial(readers.dump, problem=problem, solution=name)
            return replace(BY_NAME["dump"], fields=(problem, name), read=read)
    return None


def table() -> str:
    """Return a Markdown table of the formats, for the documentation."""
    lines = [
        "| format | `--from`, `--to` | detected by | written | cannot store |",
        "|---|---|---|---|---|",
    ]
    for data_format in FORMATS:
        fields = ", ".join(f"`{name}`" for name in data_format.fields)
        written = "yes" if data_format.write else "no"
        lines.append(
            f"| {data_format.title} | `{data_format.name}` | {fields} | {written} | {data_format.lacks()} |"
        )
    return "\n".join(lines)
