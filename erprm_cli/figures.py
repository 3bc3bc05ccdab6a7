"""Figures for people: tables of plain text and plots."""

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from erprm_cli import calibrating, processbench
from erprm_cli.candidates import BEST, PASS, Figure
from erprm_cli.errors import UsageError, UserError
from erprm_cli.jsonl import replacing
from erprm_cli.selection import Estimate
from erprm_cli.terminal import plain

BAR = 41  # characters of a bar from 0 to 1
TITLES = {PASS: "pass@n (oracle)"}


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as aligned text, in percent: a line per way of choosing, a column per n.

    After ± stands half of the 95 % interval. Differences follow in lines of their own.
    """
    values = [figure for figure in figures if figure.minus is None]
    budgets = sorted({figure.n for figure in values})
    lines: dict[tuple[str, ...], dict[int, Figure]] = {}
    for figure in values:
        lines.setdefault(_names(figure), {})[figure.n] = figure
    cells = [["", "", "", *(f"n={n}" for n in budgets)]]
    for names, by_n in lines.items():
        cells.append([*names, *(_cell(by_n[n]) if n in by_n else "" for n in budgets)])
    counts = {figure.n: figure.estimate.problems for figure in values if figure.method == PASS}
    counts.setdefault(1, max(figure.estimate.problems for figure in values))
    cells.append(["problems", "", "", *(f"{counts[n]:,}" for n in budgets)])
    text = _aligned(cells, names=3)
    differences = [figure for figure in figures if figure.minus is not None]
    if not differences:
        return text
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
    return f"{text}\n\n{_aligned(cells, names=3)}"


def processbench_table(figures: Sequence[processbench.Figure]) -> str:
    """Return the figures of ProcessBench as aligned text, in percent, with 95 % intervals."""
    cells = [["", "threshold", "F1", "95 %", "on errors", "95 %", "on correct", "95 %", "rows"]]
    for figure in figures:
        at = " ".join([f"{figure.threshold:.3g},"] * (figure.threshold is not None) + [plain(figure.rule)])
        rows = f"{figure.error_accuracy.problems:,} + {figure.correct_accuracy.problems:,}"
        estimates = figure.f1, figure.error_accuracy, figure.correct_accuracy
        values = [text for estimate in estimates for text in _with_interval(estimate)]
        cells.append([plain(figure.split), at, *values, rows])
    return _aligned(cells, names=1)


def _with_interval(estimate: Estimate) -> tuple[str, str]:
    if math.isnan(estimate.value):
        return "-", ""
    return f"{100 * estimate.value:.1f}", f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"


def calibration_table(figures: Sequence[calibrating.Figure]) -> str:
    """Return each figure as a line of numbers and a reliability diagram: bars to the target, | the score."""
    blocks = []
    for figure in figures:
        auc = (
            "-"
            if math.isnan(figure.auc)
            else "{:.3f} ({:.3f} to {:.3f})".format(figure.auc, *figure.auc_interval)
        )
        lines = [
            f"{_calibration_title(figure)}: {figure.count:,} of {figure.problems:,} problems",
            "  Brier {:.4f} ({:.4f} to {:.4f})".format(figure.brier, *figure.brier_interval)
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
        blocks.append("\n".join([*lines, _aligned(cells, names=1)]))
    return "\n\n".join(blocks)


def _calibration_title(figure: calibrating.Figure) -> str:
    at = "" if figure.eta is None else f" at eta {figure.eta:g}"
    by = "" if figure.aggregate is None else f" by {figure.aggregate}"
    return f"{figure.of}{by} against {figure.against}{at}"


def plot_calibration(figures: Sequence[calibrating.Figure], path: str) -> None:
    """Draw the reliability diagram: the mean target of each bin against its mean score, to an image file."""
    drawing = load_pyplot().Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = drawing.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfect")
    for figure in figures:
        axes.plot(
            [part.score for part in figure.bins],
            [part.target for part in figure.bins],
            "-" if figure.of == "steps" else "--",
            marker="o",
            markersize=4,
            label=f"{_calibration_title(figure)} (error {figure.error:.3f})",
        )
    axes.set_xlabel("mean score")
    axes.set_ylabel("mean target")
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    _save(drawing, path)


def load_pyplot() -> Any:
    """Return matplotlib's module for plots without a display; UsageError if it is not installed."""
    try:
        return import_module("matplotlib.figure")
    except ModuleNotFoundError:
        raise UsageError("--plot needs matplotlib: pip install 'erprm[plot]'") from None


def plot(figures: Sequence[Figure], path: str) -> None:
    """Draw % correct against n, with 95 % intervals, to a .png, .svg or .pdf file."""
    drawing = load_pyplot().Figure(figsize=(7, 4.5), layout="constrained")
    axes = drawing.subplots()
    curves: dict[tuple[str, ...], list[Figure]] = {}
    for figure in figures:
        if figure.minus is None and figure.method != "pass@1":
            curves.setdefault(_names(figure), []).append(figure)
    for names, points in curves.items():
        style = "-" if points[0].method == BEST else "--"
        n = [point.n for point in points]
        (line,) = axes.plot(
            n,
            [100 * point.estimate.value for point in points],
            style,
            marker="o",
            markersize=3,
            label=", ".join(filter(None, names)),
        )
        low = [100 * point.estimate.low for point in points]
        high = [100 * point.estimate.high for point in points]
        axes.fill_between(n, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    budgets = sorted({figure.n for figure in figures})
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [str(n) for n in budgets])
    axes.set_xlabel("candidates n")
    axes.set_ylabel("% correct")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    _save(drawing, path)


def _save(drawing: Any, path: str) -> None:
    target = Path(path)
    try:
        with replacing(target) as draft:
            drawing.savefig(draft, format=target.suffix.removeprefix(".") or "png", dpi=150)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # a format that matplotlib does not know
        raise UsageError(f"{path}: {error}") from None


def _names(figure: Figure) -> tuple[str, str, str]:
    return TITLES.get(figure.method, figure.method), figure.prm or "", figure.aggregate or ""


def _cell(figure: Figure) -> str:
    estimate = figure.estimate
    return f"{100 * estimate.value:.1f} ±{50 * (estimate.high - estimate.low):.1f}"


def _aligned(cells: Sequence[Sequence[str]], names: int) -> str:
    """Return lines with the first `names` columns flush left and the others flush right; no empty ones."""
    columns = [
        [cell.rjust(width) if place >= names else cell.ljust(width) for cell in column]
        for place, column in enumerate(zip(*cells, strict=True))
        if (width := max(map(len, column)))
    ]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))
