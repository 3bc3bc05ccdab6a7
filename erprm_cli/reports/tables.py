"""Figures for people, as tables; `plots` draws them."""

import math
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from erprm_cli.evaluation import calibration, processbench
from erprm_cli.evaluation.best_of_n import PASS, Figure
from erprm_cli.evaluation.intervals import Estimate
from erprm_cli.terminal.text import visible

BAR = 41  # characters of a bar from 0 to 1
TITLES = {PASS: "pass@n (oracle)"}


def table(figures: Sequence[Figure]) -> Group:
    """Return the figures in percent: a line per way of choosing, a column per n.

    After ± stands half of the 95 % interval. Differences follow in lines of their own.
    """
    values = [figure for figure in figures if figure.minus is None]
    budgets = sorted({figure.n for figure in values})
    lines: dict[tuple[str, ...], dict[int, Figure]] = {}
    for figure in values:
        lines.setdefault(names_of(figure), {})[figure.n] = figure
    cells = [["", "", "", *(f"n={n}" for n in budgets)]]
    for names, by_n in lines.items():
        cells.append([*names, *(_cell(by_n[n]) if n in by_n else "" for n in budgets)])
    counts = {figure.n: figure.estimate.problems for figure in values if figure.method == PASS}
    counts.setdefault(1, max(figure.estimate.problems for figure in values))
    cells.append(["problems", "", "", *(f"{counts[n]:,}" for n in budgets)])
    values_table = _aligned(cells, names=3)
    differences = [figure for figure in figures if figure.minus is not None]
    if not differences:
        return Group(values_table)
    cells = [[f"difference at n={differences[0].n}", "", "", "points", "95 % interval", "p"]]
    for figure in differences:
        estimate = figure.estimate
        interval = f"{100 * estimate.low:+.1f} to {100 * estimate.high:+.1f}"
        cells.append(
            [
                figure.method,
                f"{figure.prm} - {figure.minus}",
                figure.aggregate or "",
                f"{100 * estimate.value:+.1f}",
                interval,
                f"{estimate.p:.2g}" if estimate.p is not None else "",
            ]
        )
    return Group(values_table, "", _aligned(cells, names=3))


def processbench_table(figures: Sequence[processbench.Figure]) -> Table:
    """Return the figures of ProcessBench in percent, with 95 % intervals."""
    cells = [["", "threshold", "F1", "95 %", "on errors", "95 %", "on correct", "95 %", "rows"]]
    for figure in figures:
        at = " ".join([f"{figure.threshold:.3g},"] * (figure.threshold is not None) + [figure.rule])
        rows = f"{figure.error_accuracy.problems:,} + {figure.correct_accuracy.problems:,}"
        estimates = figure.f1, figure.error_accuracy, figure.correct_accuracy
        values = [text for estimate in estimates for text in _with_interval(estimate)]
        cells.append([figure.split, at, *values, rows])
    return _aligned(cells, names=1)


def _with_interval(estimate: Estimate) -> tuple[str, str]:
    if math.isnan(estimate.value):
        return "-", ""
    return f"{100 * estimate.value:.1f}", f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"


def calibration_table(figures: Sequence[calibration.Figure]) -> Group:
    """Return each figure as a line of numbers and a reliability diagram: bars to the target, | the score."""
    blocks: list[str | Text | Table] = []
    for figure in figures:
        auc = "-" if figure.auc is None else f"{figure.auc:.3f}{_around(figure.auc_interval, 3)}"
        lines = [
            f"{calibration_title(figure)}: {figure.count:,} of {figure.problems:,} problems",
            f"  Brier {figure.brier:.4f}{_around(figure.brier_interval, 4)}"
            + (f", {figure.noise:.4f} of it noise of the rollouts" if figure.noise else "")
            + f"; calibration error {figure.error:.3f}; AUC {auc}",
        ]
        cells = [["  score", figure.of, "mean", figure.against, f"  0{'0.5':^{BAR - 2}}1"]]
        for part in figure.bins:
            bar = list(("=" * round(part.target * (BAR - 1))).ljust(BAR))
            bar[round(part.score * (BAR - 1))] = "|"
            cells.append(
                [
                    f"  {part.low:.1f} to {part.high:.1f}",
                    f"{part.count:,}",
                    f"{part.score:.3f}",
                    f"{part.target:.3f}",
                    "  " + "".join(bar),
                ]
            )
        blocks += [*[""] * bool(blocks), *map(Text, lines), _aligned(cells, names=1)]
    return Group(*blocks)


def _around(interval: tuple[float, float], digits: int) -> str:
    low, high = interval
    return "" if math.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})"


def calibration_title(figure: calibration.Figure) -> str:
    """Return what is compared with what."""
    by = "" if figure.aggregate is None else f" by {figure.aggregate}"
    if figure.eta is None:
        return f"{figure.of}{by} against {figure.against}"
    if figure.against == calibration.RATES:
        return f"{figure.of}, scores turned into rates from eta {figure.eta:g}, against rates"
    return f"{figure.of} against {figure.against} at eta {figure.eta:g}"


def names_of(figure: Figure) -> tuple[str, str, str]:
    """Return the method, the PRM and the aggregate, for people."""
    return TITLES.get(figure.method, figure.method), figure.prm or "", figure.aggregate or ""


def _cell(figure: Figure) -> str:
    estimate = figure.estimate
    return f"{100 * estimate.value:.1f} ±{50 * (estimate.high - estimate.low):.1f}"


def _aligned(cells: Sequence[Sequence[str]], names: int) -> Table:
    """Return a table of a heading and lines, the first `names` columns flush left, without empty columns."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns = [(place, column) for place, column in enumerate(zip(*cells, strict=True)) if any(column)]
    for place, (heading, *_) in columns:
        made.add_column(Text(visible(heading)), justify="left" if place < names else "right", overflow="fold")
    for line in zip(*(column[1:] for _, column in columns), strict=True):
        made.add_row(*(Text(visible(cell)) for cell in line))
    return made
