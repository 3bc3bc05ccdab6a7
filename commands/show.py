"""erprm show: rows of any stage -> text for people."""

import shutil
import sys

from erprm_cli import options
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.reading import read_rows
from erprm_cli.terminal.text import wants_colour


def show(
    source: options.Source = "-",
    limit: options.Limit = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
) -> None:
    """Show solutions step by step, with labels, k/K and scores.

    Takes rows of any command, and ProcessBench's. Writes text, not rows: on a terminal coloured (not with
    NO_COLOR) and through $PAGER, else plain. A cross marks the first error where a row tells it: a label or
    k/K of 0, or the step that ProcessBench names; a ? the first score below 0.5.

    Example: erprm show -L 20 chosen.jsonl
    """
    from erprm_cli.reports import solutions

    on_terminal = sys.stdout.isatty()
    renderer = solutions.Renderer(shutil.get_terminal_size((100, 24)).columns, on_terminal and wants_colour())
    with bad_rows(errors, max_errors) as bad:
        texts = (renderer.render(row) for row in read_rows(source, solutions.check, bad, limit))
        (solutions.page if on_terminal else solutions.print_all)(texts)
