"""Rows as text for people: a solution step by step, with its labels, rollouts and scores.

Each step has a line: its number, then the values that its row has (label with its interval, k/K right
rollouts, score), then its text. A dash stands for a value that a step does not have. Colours go from red (0)
to green (1); the text has the colour of the first value. ✗ marks the first error: in ProcessBench the step in
`label`, else the first step with a label or k/K of 0. ? marks the first step with a score below 0.5, because
a score is only a model's estimate.

The part of a thinking model's solution that has no steps is dim: the reasoning before the steps of the
answer, shortened unless all of it is wanted, or the answer after the steps of the reasoning.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.errors import RowError
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import one_line, rendered, visible

T = TypeVar("T")
SHADES = ("red", "color(208)", "yellow", "color(148)", "green")  # for five equal parts of [0, 1]
LOW_SCORE = 0.5
NO_VALUE = "-"  # of a step without rollouts
PAGE_STEPS, PAGE_CHARACTERS = 200, 20_000  # drawn at a time
VERDICT_STYLES = {"right": "bold green", "wrong": "bold red"}
STEP_VALUES = ("rollouts", "labels", "scores", "rates", "successes")  # what only a solution has
THOUGHT_LINES = 3  # of the reasoning, if it is shortened


def check(row: Row, names: FieldNames | None = None) -> Row:
    """Check a row of any stage; its lists must have one element per step. Raises RowError.

    `names` finds fields under other names.
    """
    names = names or FieldNames()
    row = names.renamed(row)
    of_steps = any(row.get(name) is not None for name in STEP_VALUES)
    if "sample" in row or (of_steps and row.get("solution") is not None):
        row = schema.check_solution(ForeignRows(names=names).completed(row))
    elif row.get("steps") is None:
        return as_problem(row, names)
    elif (other := names.find(row, "problem", str)) != "problem":
        row = row | {"problem": row[other]}
    steps = row["steps"]
    schema.need(row, "problem", str, "sample")
    schema.check_strings(steps, "'steps'")
    if row.get("rollouts") is not None:
        schema.check_rollouts(row)
    for name in ("labels", *schema.LABEL_BOUNDS, "scores"):
        if (values := row.get(name)) is not None:
            known = (
                values if name == "scores" or not isinstance(values, list) else schema.without_nulls(values)
            )
            if known or not values:
                schema.check_numbers(known, f"'{name}'")
            if len(values) != len(steps):
                raise RowError(f"'{name}' has {len(values)} numbers for {len(steps)} steps")
    return row


class Column(NamedTuple):
    """The values of every step from one stage: as text [L], and as numbers [L] in [0, 1] for the colour.

    A step without a value has a dash and None.
    """

    name: str
    cells: list[str]
    values: list[float | None]


def columns(row: Row) -> list[Column]:
    """Return the columns of a row, the most reliable first; none if it has no steps."""
    found: list[Column] = []
    if row.get("steps") is None:
        return found
    if row.get("labels") is not None:
        cells = [
            _number(value) + ("" if ends is None else f" [{ends[0]:.2f}, {ends[1]:.2f}]")
            for value, ends in zip(row["labels"], label_intervals(row), strict=True)
        ]
        found.append(Column("label", cells, row["labels"]))
    if row.get("rollouts") is not None:
        means = [None if rewards is None else sum(rewards) / len(rewards) for rewards in row["rollouts"]]
        found.append(Column("k/K", list(map(_count, row["rollouts"])), means))
    if row.get("scores") is not None:
        found.append(Column("score", list(map(_number, row["scores"])), row["scores"]))
    return found


def label_intervals(row: Row) -> list[tuple[float, float] | None]:
    """Return the interval of the label of each step, None where it is unknown."""
    unknown = [None] * len(row["labels"])
    low, high = (unknown if row.get(name) is None else row[name] for name in schema.LABEL_BOUNDS)
    return [None if None in ends else ends for ends in zip(low, high, strict=True)]


def _number(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:.2f}"


def _count(rewards: Sequence[float] | None) -> str:
    """Return successes/rollouts of a step, or the mean of rewards other than 0 and 1."""
    if rewards is None:
        return NO_VALUE
    total = sum(rewards)
    return f"{total:g}/{len(rewards)}" if set(rewards) <= {0, 1} else f"{total / len(rewards):.2g}"


def labelled_error(row: Row) -> int | None:
    """Return the first wrong step as people labelled it in ProcessBench, -1 if none is wrong, else None."""
    label = row.get("label")
    if isinstance(label, int) and not isinstance(label, bool) and row.get("steps") is not None:
        return label if 0 <= label < len(row["steps"]) else -1
    return None


def first_error(row: Row) -> int | None:
    """Return the index of the first wrong step that a row reports, -1 if none is wrong, None if unknown.

    It is the step that people labelled, else the first one with a label or k/K of 0.

    >>> first_error({"steps": ["a", "b"], "labels": [0.7, 0.0]}), first_error({"steps": ["a"], "label": -1})
    (1, -1)
    """
    if (labelled := labelled_error(row)) is not None:
        return labelled
    for column in columns(row)[:1]:
        if column.name != "score":
            return _first(column.values, lambda value: value is not None and value <= 0)
    return None


def marks(row: Row) -> dict[int, str]:
    """Return the marks of steps by index: ✗ for the first error, ? for the first low score.

    >>> marks({"steps": ["a", "b"], "rollouts": [[0.0, 1.0], [0.0]], "scores": [0.2, 0.1]})
    {0: '?', 1: '✗'}
    """
    low = _first(row.get("scores") or [], lambda score: score < LOW_SCORE)
    error = first_error(row)
    found = {low: "?", -1 if error is None else error: "✗"}
    return {index: mark for index, mark in found.items() if index >= 0}


def _first(values: Sequence[T], is_bad: Callable[[T], bool]) -> int:
    """Return the index of the first bad value, or -1."""
    return next((index for index, value in enumerate(values) if is_bad(value)), -1)


def origin(row: Row) -> list[str]:
    """Return the names of the split and of the generator, if a row has them."""
    return [row[name] for name in ("split", "generator") if isinstance(row.get(name), str)]


def around_steps(row: Row) -> tuple[str, str]:
    """Return what a thinking model wrote outside the steps: its reasoning before them, its answer after them.

    One of them is empty, because the steps are those of the other one; both are without a thinking model.
    """
    if row.get("steps_of") == "reasoning":
        return "", str(row.get("solution") or "").strip()
    return str(row.get("reasoning") or "").strip(), ""


def is_correct(row: Row) -> bool | None:
    """Return whether the final answer of a row is right, or None if the row does not say."""
    for name in ("correct", "final_answer_correct"):
        if isinstance(row.get(name), bool):
            return bool(row[name])
    reward = row.get("reward")
    return None if not isinstance(reward, int | float) else schema.is_correct(reward)


def facts(row: Row) -> list[tuple[str, str]]:
    """Return what else a row tells about its solution, as (title, text): answers, verdict, how it was made.

    The verdict has no title; it is "right" or "wrong".
    """
    right = is_correct(row)
    found = [
        ("gold", row.get("answer")),
        ("prediction", row.get("prediction")),
        ("", None if right is None else "right" if right else "wrong"),
        ("", "cut off" if row.get("finish_reason") == "length" else None),
    ]
    if isinstance(row.get("score"), int | float) and "aggregate" in row:
        found.append(("best of", f"{row.get('n')} by {row['aggregate']}: {row['score']:.2f}"))
    found += [(title, row.get(title.lower())) for title in ("PRM", "eta", "estimator")]
    return [(title, str(value)) for title, value in found if value is not None]


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders rows as text of `width` columns, with or without colours and all of the reasoning."""

    width: int = 80
    colour: bool = False
    all_reasoning: bool = False

    def render(self, row: Row) -> str:
        """Return a checked row as text that ends with an empty line."""
        return "".join(self.pieces(row))

    def pieces(self, row: Row) -> Iterator[str]:
        """Yield the text of a checked row a page at a time: the beginning of a huge row appears at once."""
        yield self._rendered(self._heading(row))
        for text in _cut(row["problem"]):
            yield self._rendered(Text(visible(text)))
        yield self._rendered("")
        if row.get("steps") is not None:
            reasoning, answer = around_steps(row)
            yield from map(self._rendered, self._reasoning(reasoning))
            yield from map(self._rendered, _step_tables(row))
            yield self._rendered("")
            if answer:
                yield self._rendered(Group(Text(visible(answer), "dim"), ""))
        if verdict := self._verdict(row):
            yield self._rendered(Group(verdict, ""))

    def _rendered(self, part: RenderableType) -> str:
        return rendered(part, self.width, self.colour)

    def _reasoning(self, text: str) -> list[RenderableType]:
        """Return the reasoning before the steps of an answer; without any, nothing."""
        lines = text.splitlines()
        hidden = 0 if self.all_reasoning else max(0, len(lines) - THOUGHT_LINES)
        shown = lines[: len(lines) - hidden]
        if hidden:
            shown.append(f"... {hidden:,} more lines of reasoning; --reasoning shows them")
        return [Text(visible("\n".join(shown)), "dim"), ""] if lines else []

    def _heading(self, row: Row) -> Text:
        words = [one_line(str(row.get("id", "")), self.width // 2)]
        if row.get("sample") is not None:
            words.append(f"sample {row['sample']}")
        words += [one_line(name, self.width // 4) for name in origin(row)]
        title = f"── {', '.join(filter(None, words))} "
        return Text(title + "─" * (self.width - cell_len(title)), "bold")

    def _verdict(self, row: Row) -> Text:
        """Return a line about the solution: gold answer, prediction, right or wrong, how it was chosen."""
        words = []
        for title, text in facts(row):
            style = "" if title else VERDICT_STYLES.get(text, "")
            words.append(Text(f"{title} {one_line(text, self.width // 3)}".lstrip(), style))
        return Text(", ").join(words)


def _step_tables(row: Row) -> Iterator[Table]:
    """Yield tables with a line for each step: its mark, number, values and text; a page at a time."""
    found, mark_of, steps = columns(row), marks(row), row["steps"]
    widths = [max(map(len, [column.name, *column.cells])) for column in found]
    digits, is_first = len(str(len(steps))), True
    for page in _pages((index, part) for index, step in enumerate(steps) for part in _cut(step)):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.show_header = bool(found) and is_first
        table.add_column(no_wrap=True)
        for column, width in zip(found, widths, strict=True):
            table.add_column(column.name, justify="right", no_wrap=True, min_width=width)
        table.add_column(overflow="fold")
        for index, text in page:
            mark = mark_of.get(index, " ")
            number = Text.assemble((mark, "bold red"), " ", (f"{index + 1:{digits}}", "dim"))
            cells = [Text(column.cells[index], shade(column.values[index])) for column in found]
            colour = shade(found[0].values[index]) if found else "red" if mark != " " else ""
            table.add_row(number, *cells, Text(visible(text), colour))
        yield table
        is_first = False


def _cut(text: str) -> Iterator[str]:
    """Yield a text in parts of at most PAGE_CHARACTERS."""
    for begin in range(0, max(len(text), 1), PAGE_CHARACTERS):
        yield text[begin : begin + PAGE_CHARACTERS]


def _pages(parts: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Yield the parts of steps in pages of PAGE_STEPS, or of about PAGE_CHARACTERS."""
    page: list[tuple[int, str]] = []
    size = 0
    for index, text in parts:
        page.append((index, text))
        size += len(text)
        if len(page) == PAGE_STEPS or size >= PAGE_CHARACTERS:
            yield page
            page, size = [], 0
    if page:
        yield page


def shade(value: float | None) -> str:
    """Return the colour of a value: red at 0, green at 1; none for None.

    >>> [shade(value) for value in (0.0, 0.5, 1.0, None)]
    ['red', 'yellow', 'green', '']
    """
    return "" if value is None else SHADES[min(int(min(max(value, 0), 1) * len(SHADES)), len(SHADES) - 1)]


def print_all(texts: Iterable[str]) -> None:
    """Print texts as they come; characters that stdout cannot encode become question marks."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    for text in texts:
        sys.stdout.write(text)
        sys.stdout.flush()


def page(texts: Iterable[str]) -> None:
    """Show texts in $PAGER, or less, as they come; without a pager, print them."""
    command = os.environ.get("PAGER", "less" if shutil.which("less") else "")
    if not command:
        return print_all(texts)
    # like git: leave text that fits on the screen there, and keep colours
    environment = os.environ | {"LESS": os.environ.get("LESS", "FRX"), "LESSCHARSET": "utf-8"}
    pager = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, env=environment)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # while it runs, Ctrl-C is for the pager
    try:
        assert pager.stdin is not None
        for text in texts:
            pager.stdin.write(text.encode("utf-8", "replace"))
            pager.stdin.flush()
    except BrokenPipeError:  # the user left the pager early
        pass
    finally:
        with suppress(BrokenPipeError):
            pager.stdin.close()  # type: ignore[union-attr]
        pager.wait()
        signal.signal(signal.SIGINT, before)
