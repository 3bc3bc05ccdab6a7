"""erprm show: rows of any stage -> text for people, or a page for the browser."""

import shutil
import sys
from functools import partial
from typing import Annotated

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.drafts import report_file
from erprm_cli.io.ownership import NamedFile
from erprm_cli.io.reading import read_rows
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.terminal.text import wants_colour


@options.grouped
def show(
    rows: options.Input,
    html: Annotated[
        str | None,
        options.Role.PAGE,
        options.Option(
            metavar="FILE.html",
            help="Write a web page with charts, filters, sorting and search instead; it needs no network.",
        ),
    ] = None,
    compare: Annotated[
        str | None,
        options.Role.READ,
        options.Option(metavar="FILE", help="Show the scores of another PRM for the same solutions too."),
    ] = None,
    reasoning: Annotated[
        bool,
        options.Option(
            "--reasoning", help="Show all reasoning of thinking models. Default: its first 3 lines."
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Show solutions step by step, with labels, k/K and scores.

    INPUT holds rows of any command, or of ProcessBench. The output is text, not rows: on a terminal it is
    coloured (unless NO_COLOR is set) and goes through $PAGER. A cross marks the first error that a row
    reports: a label or k/K of 0, or the step that ProcessBench names. A ? marks the first score below 0.5.
    The reasoning of thinking models is dim. With --html it is a page for the browser, which can also show
    where two PRMs disagree.

    Example: erprm show -L 20 chosen.jsonl
    """
    if compare is not None and html is None:
        raise UsageError("--compare is for the page", remedy="give --html FILE.html too")
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.reports import solutions

    with bad_rows(rows.errors, rows.max_errors) as bad, Reporter("show", quiet) as reporter:
        names = FieldNames(rows.field, reporter.info)
        if html is not None:
            from erprm_cli.reports.solutions_page import ComparedScores, SolutionsPage

            page = SolutionsPage(rows.source, None if compare is None else ComparedScores(compare))

            def check(row: Row) -> Row:
                return page.check(names.renamed(row))

            checked = read_rows(rows.source, check, bad, rows.limit, reporter=reporter)
            with report_file(NamedFile("--html", options.Role.PAGE, html)) as file:
                for part in page.parts(checked):
                    file.write(part)
                    reporter.progress(page.count, "solutions")
            reporter.info(f"{page.count:,} solutions written to {html}; open it in a browser")
            if page.other is not None and page.other.unmatched:
                reporter.warn(f"{page.other.unmatched:,} of them are not in {compare}")
            return
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size((100, 24)).columns
        renderer = solutions.Renderer(width, terminal and wants_colour(), reasoning)
        checked = read_rows(rows.source, partial(solutions.check, names=names), bad, rows.limit)
        texts = (piece for row in checked for piece in renderer.pieces(row))
        (solutions.page if terminal else solutions.print_all)(texts)
