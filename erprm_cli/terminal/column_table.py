"""A table that a narrow terminal can show: columns that do not fit follow below. Loads rich."""

from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

GAP = 2  # spaces between columns


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """Columns of names and of numbers, headings first, for rich to draw.

    On a narrow terminal, columns of numbers that do not fit follow below, beside the same names; no number
    is broken, and lines without any number there are left out. Long names are folded.
    """

    names: list[list[str]]
    numbers: list[list[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one table per group of columns that fits into the width."""
        widths = [max(map(cell_len, column)) + GAP for column in self.numbers]
        own = sum(max(map(cell_len, column)) + GAP for column in self.names)
        room = options.max_width + GAP - min(own, options.max_width // 2)
        begin = 0
        while begin < len(widths):
            end = begin + 1
            while end < len(widths) and sum(widths[begin : end + 1]) <= room:
                end += 1
            if begin:
                yield ""
            yield self._table(self.numbers[begin:end])
            begin = end

    def _table(self, numbers: list[list[str]]) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        for heading, *_ in self.names:
            made.add_column(Text(heading), overflow="fold")
        for heading, *_ in numbers:
            made.add_column(Text(heading), justify="right", no_wrap=True)
        for line in zip(*(column[1:] for column in (*self.names, *numbers)), strict=True):
            if any(line[len(self.names) :]):
                made.add_row(*map(Text, line))
        return made
