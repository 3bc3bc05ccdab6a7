"""Results as plots: image files by matplotlib, and text plots for a terminal."""

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from erprm_cli.evaluation.best_of_n import BEST, PASS_1, BestOfNResult
from erprm_cli.evaluation.calibration import CalibrationResult
from erprm_cli.io.drafts import report_file
from erprm_cli.io.ownership import PLOT_MARK, NamedFile
from erprm_cli.packages import missing_package
from erprm_cli.reports.tables import calibration_title, names_of
from erprm_cli.roles import Role

WIDTH, HEIGHT = 64, 16  # of a text plot, in characters
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def load_figure_module() -> Any:
    """Return matplotlib.figure, which needs no display. Raises UserError if it is not installed."""
    try:
        return import_module("matplotlib.figure")
    except ModuleNotFoundError:
        raise missing_package("matplotlib", "--plot") from None


def plot_accuracy(results: Sequence[BestOfNResult], path: str) -> None:
    """Plot % correct against n with 95 % intervals, to a .png, .svg or .pdf file."""
    figure = load_figure_module().Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, points in _curves(results).items():
        style = "-" if points[0].method == BEST else "--"
        n = [point.n for point in points]
        (line,) = axes.plot(
            n,
            [100 * point.estimate.value for point in points],
            style,
            marker="o",
            markersize=3,
            label=name,
        )
        low = [100 * point.estimate.low for point in points]
        high = [100 * point.estimate.high for point in points]
        axes.fill_between(n, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    budgets = sorted({result.n for result in results})
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [str(n) for n in budgets])
    axes.set_xlabel("candidates n")
    axes.set_ylabel("% correct")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    _save(figure, path)


def text_accuracy(results: Sequence[BestOfNResult]) -> str:
    """Return a text plot of % correct against n (log axis), one letter per curve; * where letters meet."""
    curves = dict(zip(LETTERS, _curves(results).items(), strict=False))
    budgets = sorted({point.n for _, points in curves.values() for point in points})
    values = [100 * point.estimate.value for _, points in curves.values() for point in points]
    if len(budgets) < 2:
        return "a plot needs at least two values of n"
    low, high = 5 * math.floor(min(values) / 5), 5 * math.ceil(max(values) / 5)
    high = max(high, low + 5)
    scale = (WIDTH - 1) / math.log(budgets[-1] / budgets[0])
    column = {n: round(math.log(n / budgets[0]) * scale) for n in budgets}
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]

    def height(value: float) -> float:
        return (HEIGHT - 1) * (high - value) / (high - low)

    for _, points in curves.values():
        heights = [height(100 * point.estimate.value) for point in points]
        for place, (one, two) in enumerate(zip(points, points[1:], strict=False)):
            begin, end = column[one.n], column[two.n]
            for x in range(begin + 1, end):
                y = heights[place] + (heights[place + 1] - heights[place]) * (x - begin) / (end - begin)
                grid[round(y)][x] = "."
    for letter, (_, points) in curves.items():
        for point in points:
            cells, x = grid[round(height(100 * point.estimate.value))], column[point.n]
            cells[x] = letter if cells[x] in " ." else "*"
    lines = []
    for y, cells in enumerate(grid):
        value = high - (high - low) * y / (HEIGHT - 1)
        lines.append(f"{value:5.1f} |{''.join(cells)}".rstrip())
    ticks = [" "] * (WIDTH + 8)
    for n, x in column.items():
        ticks[x : x + len(str(n))] = str(n)
    lines += [f"    % +{'-' * WIDTH}", f"    n  {''.join(ticks)}".rstrip()]
    return "\n".join([*lines, *(f"  {letter}  {name}" for letter, (name, _) in curves.items())])


def plot_calibration(results: Sequence[CalibrationResult], path: str) -> None:
    """Plot the reliability diagram, the mean target of each bin against its mean score, to an image file."""
    figure = load_figure_module().Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfect")
    for result in results:
        axes.plot(
            [part.score for part in result.bins],
            [part.target for part in result.bins],
            "-" if result.of == "steps" else "--",
            marker="o",
            markersize=4,
            label=f"{calibration_title(result)} (error {result.error:.3f})",
        )
    axes.set_xlabel("mean score")
    axes.set_ylabel("mean target")
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    _save(figure, path)


def _curves(results: Sequence[BestOfNResult]) -> dict[str, list[BestOfNResult]]:
    """Return the results of each method by the name of its curve."""
    curves: dict[str, list[BestOfNResult]] = {}
    for result in results:
        if result.minus is None and result.method != PASS_1:
            curves.setdefault(", ".join(filter(None, names_of(result))), []).append(result)
    return curves


def _save(figure: Any, path: str) -> None:
    kind = Path(path).suffix.removeprefix(".").lower()
    creator = "Software" if kind == "png" else "Creator"
    with report_file(NamedFile("--plot", Role.PLOT, path)) as file:
        figure.savefig(file, format=kind, dpi=150, metadata={creator: PLOT_MARK})
