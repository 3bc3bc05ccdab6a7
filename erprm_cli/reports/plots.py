"""Charts drawn: image files by matplotlib, and text plots for a terminal."""

import math
from importlib import import_module
from pathlib import Path
from typing import Any

from erprm_cli.io.drafts import report_file
from erprm_cli.io.ownership import MARK, NamedFile, check_format
from erprm_cli.packages import missing_package
from erprm_cli.reports.charts import Chart, y_range
from erprm_cli.roles import Role

WIDTH, HEIGHT = 64, 16  # of a text plot, in characters
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def check_plot(path: str) -> None:
    """Raise UsageError if plots are not written as `path`, or matplotlib is not installed."""
    check_format(NamedFile("--plot", Role.PLOT, path))
    _figure_module()


def _figure_module() -> Any:
    try:
        return import_module("matplotlib.figure")  # needs no display
    except ModuleNotFoundError:
        raise missing_package("matplotlib", "--plot") from None


def save_plot(chart: Chart, path: str) -> None:
    """Draw a chart to a .png, .svg or .pdf file. Raises UserError if it cannot be written."""
    size = (7, 4.5) if chart.diagonal is None else (5.5, 5.5)
    figure = _figure_module().Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    if chart.diagonal is not None:
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label=chart.diagonal)
        axes.set_aspect("equal")
    for curve in chart.curves:
        style = "--" if curve.dashed else "-"
        (line,) = axes.plot(*zip(*curve.points, strict=True), style, label=curve.name)
        if not curve.marks:
            continue
        x, y = zip(*curve.marks, strict=True)
        axes.plot(x, y, "o", markersize=4, color=line.get_color())
        if curve.intervals:
            low, high = zip(*curve.intervals, strict=True)
            if len(x) > 1:
                colour = line.get_color()
                axes.fill_between(
                    x, low, high, color=colour, alpha=0.12, linewidth=0, label=curve.intervals_name
                )
            else:
                axes.vlines(x, low, high, color=line.get_color(), linewidth=1)
    if chart.log_x:
        axes.set_xscale("log", base=2)
    if chart.x_ticks:
        axes.set_xticks(chart.x_ticks, [f"{x:g}" for x in chart.x_ticks])
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(alpha=0.3)
    if chart.curves:
        axes.legend(fontsize="small")
    kind = Path(path).suffix.removeprefix(".")
    creator = "Software" if kind == "png" else "Creator"
    with report_file(NamedFile("--plot", Role.PLOT, path)) as file:
        figure.savefig(file, format=kind, dpi=150, metadata={creator: MARK})


def text_plot(chart: Chart) -> str:
    """Return a chart as text: dots for the lines, a letter per curve at its marks, * where letters meet."""
    curves = dict(zip(LETTERS, chart.curves, strict=False))
    xs = sorted({x for curve in curves.values() for x, _ in (*curve.points, *curve.marks)})
    if len(xs) < 2:
        return f"a plot needs at least two values of {chart.x_name}"
    first, last = xs[0], xs[-1]
    low, high = y_range(chart)
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]

    def column(x: float) -> int:
        part = math.log(x / first) / math.log(last / first) if chart.log_x else (x - first) / (last - first)
        return round(part * (WIDTH - 1))

    def height(y: float) -> float:
        return (HEIGHT - 1) * (high - y) / (high - low)

    for curve in curves.values():
        for (x, y), (next_x, next_y) in zip(curve.points, curve.points[1:], strict=False):
            begin, end = column(x), column(next_x)
            for place in range(begin, end + 1):
                part = (place - begin) / max(1, end - begin)
                grid[round(height(y + (next_y - y) * part))][place] = "."
    for letter, curve in curves.items():
        for x, y in curve.marks:
            cells, place = grid[round(height(y))], column(x)
            cells[place] = letter if cells[place] in " ." else "*"
    digits = max(1, math.ceil(-math.log10((high - low) / HEIGHT)))
    lines = []
    for y, cells in enumerate(grid):
        value = high - (high - low) * y / (HEIGHT - 1)
        lines.append(f"{value:5.{digits}f} |{''.join(cells)}".rstrip())
    ticks = [" "] * (WIDTH + 8)
    for x in chart.x_ticks or (first, last):
        text = f"{x:.2g}" if isinstance(x, float) else str(x)
        ticks[column(x) : column(x) + len(text)] = text
    lines += [f"{chart.y_name:>5} +{'-' * WIDTH}", f"{chart.x_name:>5}  {''.join(ticks)}".rstrip()]
    return "\n".join([*lines, *(f"  {letter}  {curve.name}" for letter, curve in curves.items())])
