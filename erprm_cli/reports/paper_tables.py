r"""Tables as files: Markdown and LaTeX with the cells of the terminal's tables, CSV with the rows.

>>> grid = Grid([["", "n=4"], ["prm_a", "50.0 ±10.0"]], names=1)
>>> print(markdown(grid))
|  | n=4 |
|:---|---:|
| prm\_a | 50.0 ±10.0 |
>>> print(latex(grid))
\begin{tabular}{lr}
\toprule
 & n=4 \\
\midrule
prm\_a & 50.0 $\pm$10.0 \\
\bottomrule
\end{tabular}
"""

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from erprm_cli.errors import UsageError
from erprm_cli.io.drafts import report_file
from erprm_cli.io.ownership import MARK, NamedFile
from erprm_cli.io.provenance import write_meta
from erprm_cli.reports.tables import Cells, Grid
from erprm_cli.roles import Role
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import visible

CSV = ".csv"
NOTES = {  # at the top of a file, not seen in print
    ".md": f"<!-- {MARK} -->",
    ".tex": rf"% {MARK}; the rules need \usepackage{{booktabs}}",
}
MARKDOWN_SIGNS = re.compile(r"([\\`*_|<\[\]])")
LATEX_SIGNS = {sign: rf"\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "η": r"$\eta$",
}
MINUS = re.compile(r"(?<!\S)-(?=\d|$)")  # before a number, or alone


def check_table(path: str) -> None:
    """Raise UsageError if tables are not written as `path`."""
    if Path(path).suffix not in (*WRITERS, CSV):
        raise UsageError(f"tables are written as {', '.join((*WRITERS, CSV))}", where=f"--table {path}")


def save_table(grids: Sequence[Grid], rows: Sequence[Row], path: str) -> None:
    """Write `grids` as Markdown or LaTeX, or `rows`, which have all digits, as CSV.

    The suffix of `path` decides. Raises UserError if the file cannot be written.
    """
    suffix = Path(path).suffix
    if suffix == CSV:
        text = csv_text(rows)
    else:
        text = "\n\n".join([NOTES[suffix], *map(WRITERS[suffix], grids)]) + "\n"
    with report_file(NamedFile("--table", Role.TABLE, path)) as file:
        file.write(text.encode())
        if suffix == CSV:  # which has no place for a mark
            write_meta(Path(os.path.realpath(path)), {})


def markdown(grid: Grid) -> str:
    """Return a grid as a table of GitHub's Markdown."""
    names, numbers = grid.columns()
    rule = f"|{':---|' * len(names)}{'---:|' * len(numbers)}"
    lines = _lines(names + numbers, lambda text: MARKDOWN_SIGNS.sub(r"\\\1", text))
    heading, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([heading, rule, *rest])


def latex(grid: Grid) -> str:
    """Return a grid as a tabular of LaTeX, with the rules of the package booktabs."""
    names, numbers = grid.columns()
    heading, *rest = (f"{' & '.join(line)} \\\\" for line in _lines(names + numbers, _latex_text))
    begin = rf"\begin{{tabular}}{{{'l' * len(names)}{'r' * len(numbers)}}}"
    end = r"\end{tabular}"
    return "\n".join([begin, r"\toprule", heading, r"\midrule", *rest, r"\bottomrule", end])


def csv_text(rows: Sequence[Row]) -> str:
    """Return rows as CSV with a heading; fields that hold lists or objects are left out, null is empty.

    >>> csv_text([{"n": 4, "value": 0.5, "bins": []}, {"n": 8, "p": None}]).splitlines()
    ['n,value,p', '4,0.5,', '8,,']
    """
    flat = [
        {name: value for name, value in row.items() if not isinstance(value, list | dict)} for row in rows
    ]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


WRITERS: dict[str, Callable[[Grid], str]] = {".md": markdown, ".tex": latex}


def _lines(columns: Sequence[Cells], escaped: Callable[[str], str]) -> list[Cells]:
    """Return the lines of columns, each cell as one line of escaped text."""
    lines = zip(*columns, strict=True)
    return [[escaped(" ".join(visible(cell).split())) for cell in line] for line in lines]


def _latex_text(text: str) -> str:
    text = "".join(LATEX_SIGNS.get(sign, sign) for sign in text)
    return MINUS.sub("$-$", text)
