"""erprm show: rows of any stage -> text for people."""

import shutil
import sys
from functools import partial

from erprm_cli import options
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.reading import read_rows
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.terminal.text import wants_colour


@options.grouped
def show(rows: options.Input) -> None:
    """Show solutions step by step, with labels, k/K and scores.

    INPUT holds rows of any command, or of ProcessBench. The output is text, not rows: on a terminal it is
    coloured (unless NO_COLOR is set) and goes through $PAGER. A cross marks the first error that a row
    reports: a label or k/K of 0, or the step that ProcessBench names. A ? marks the first score below 0.5.

    Example: erprm show -L 20 chosen.jsonl
    """
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.reports import solutions

    on_terminal = sys.stdout.isatty()
    renderer = solutions.Renderer(shutil.get_terminal_size((100, 24)).columns, on_terminal and wants_colour())
    with bad_rows(rows.errors, rows.max_errors) as bad:
        names = FieldNames(rows.field, Reporter("show").info)
        checked = read_rows(rows.source, partial(solutions.check, names=names), bad, rows.limit)
        texts = (piece for row in checked for piece in renderer.pieces(row))
        (solutions.page if on_terminal else solutions.print_all)(texts)
