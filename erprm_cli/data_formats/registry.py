"""Everyone's data: rows of other projects to ours and back, by the fields they have.

Our rows are the pivot. A foreign row becomes one row of ours for each solution in it: `id` is a hash of the
problem where none is given, `sample` counts the solutions of a problem. A field that has no place in ours is
kept, so that the way back finds it again. `FORMATS` says which formats there are and what each cannot hold.
"""

from collections.abc import Callable
from dataclasses import dataclass

from erprm_cli.data_formats import readers, writers
from erprm_cli.data_formats.readers import Reader
from erprm_cli.data_formats.writers import Writer
from erprm_cli.rows.row import Row

ERPRM, PROBLEM = "erprm", "problem"


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
