"""Results as files for people, beside the rows: what the flags --plot and --table name."""

from collections.abc import Sequence

from erprm_cli.reports.charts import Chart
from erprm_cli.reports.config import FiguresConfig
from erprm_cli.reports.paper_tables import check_table, save_table
from erprm_cli.reports.plots import check_plot, save_plot, text_plot
from erprm_cli.reports.tables import Grid
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter

IN_TERMINAL = "-"  # instead of a file


def check_figures(wanted: FiguresConfig) -> None:
    """Raise UsageError, before any work, if a file has another format, or matplotlib is not installed."""
    if wanted.plot not in (None, IN_TERMINAL):
        check_plot(wanted.plot)
    if wanted.table is not None:
        check_table(wanted.table)


def write_figures(
    wanted: FiguresConfig, chart: Chart, grids: Sequence[Grid], rows: Sequence[Row], reporter: Reporter
) -> None:
    """Draw `chart` and write `grids` (or `rows`, as CSV) to the files that are wanted."""
    if wanted.plot == IN_TERMINAL:
        reporter.show(f"\n{text_plot(chart)}")
    elif wanted.plot is not None:
        save_plot(chart, wanted.plot)
    if wanted.table is not None:
        save_table(grids, rows, wanted.table)
