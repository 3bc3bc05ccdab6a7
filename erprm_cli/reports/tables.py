"""Results as tables for people; `paper_tables` writes them as files, `plots` draws them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from erprm_cli.evaluation import calibration, processbench
from erprm_cli.evaluation.best_of_n import METHODS, PASS, BestOfNResult
from erprm_cli.evaluation.equal_tokens import TokensResult, Way
from erprm_cli.evaluation.intervals import Estimate
from erprm_cli.reports.environment import Finding
from erprm_cli.rows.row import Row
from erprm_cli.terminal.column_table import ColumnTable
from erprm_cli.terminal.text import visible

BAR_WIDTH = 35  # characters of a bar from 0 to 1; the table then fits into 80 columns
LONGEST_CELL = 200  # characters; rich takes minutes to fold a name of 100,000
TITLES = {PASS: "pass@n (oracle)"}
BEST_OF_N_NOTE = (
    "% correct ± half of the 95 % interval over problems. Tied candidates or answers: each is chosen equally "
    "often."
)
TOKENS_NOTE = (
    "Tokens per problem; % correct ± half of the 95 % interval over problems. A search at other tokens is "
    "interpolated between its budgets."
)
PROCESSBENCH_NOTE = "% (95 % interval over rows); rows: with an error + correct"
DIFFERENCE = ("points", "95 % interval", "p")

Cells = list[str]  # of a line or a column; of a column, the heading first


class Grid(NamedTuple):
    """The cells of a table, line by line, the headings first. The first `names` columns are names."""

    lines: Sequence[Cells]
    names: int

    def columns(self) -> tuple[list[Cells], list[Cells]]:
        """Return the columns of names and those of numbers that have more than a heading."""
        columns = [(place, [*cells]) for place, cells in enumerate(zip(*self.lines, strict=True))]
        filled = [(place, cells) for place, cells in columns if any(cells[1:])]
        names = [cells for place, cells in filled if place < self.names]
        return names, [cells for place, cells in filled if place >= self.names]


def best_of_n_table(results: Sequence[BestOfNResult]) -> Group:
    """Return the grids of best-of-n as tables, one below the other, and what their numbers are."""
    return _below_each_other(*map(_aligned, best_of_n_grids(results)), BEST_OF_N_NOTE)


def best_of_n_grids(results: Sequence[BestOfNResult]) -> list[Grid]:
    """Return accuracies in percent: a line per method, a column per n, ± half of the 95 % interval.

    What is best to use comes first, bounds last. Differences between PRMs follow in a second grid.
    """
    values = [result for result in results if result.minus is None]
    values.sort(key=lambda result: METHODS.index(result.method))
    budgets = sorted({result.n for result in values})
    lines: dict[tuple[str, ...], dict[int, BestOfNResult]] = {}
    for result in values:
        lines.setdefault(names_of(result), {})[result.n] = result
    cells = [["", "", "", *(f"n={n}" for n in budgets)]]
    for names, by_n in lines.items():
        cells.append([*names, *(_cell(by_n[n].estimate) if n in by_n else "" for n in budgets)])
    counts = {result.n: result.estimate.problems for result in values}
    cells.append(["problems", "", "", *(f"{counts[n]:,}" for n in budgets)])
    grids = [Grid(cells, names=3)]
    differences = [result for result in results if result.minus is not None]
    if not differences:
        return grids
    cells = [[f"difference at n={differences[0].n}", "", "", *DIFFERENCE]]
    for result in differences:
        compared = f"{result.prm} - {result.minus}"
        cells.append([result.method, compared, result.aggregate or "", *_difference(result.estimate)])
    return [*grids, Grid(cells, names=3)]


def tokens_table(results: Sequence[TokensResult]) -> Group:
    """Return the grids of accuracies against tokens as tables, and what their numbers are."""
    return _below_each_other(*map(_aligned, tokens_grids(results)), TOKENS_NOTE)


def tokens_grids(results: Sequence[TokensResult]) -> list[Grid]:
    """Return accuracies in percent: a line per search and budget, a column per way to choose.

    Differences between searches at equal tokens follow in a second grid.
    """
    values = [result for result in results if result.minus is None]
    chosen_by = list(dict.fromkeys(result.way for result in values))
    headings = [", ".join(filter(None, way)) for way in chosen_by]
    cells = [["", "n", "tokens", *headings, "prompt tokens", "PRM tokens"]]
    lines: dict[tuple[str, float], dict[Way, TokensResult]] = {}
    for result in values:
        lines.setdefault((result.search, result.tokens), {})[result.way] = result
    for (search, tokens), by_way in lines.items():
        one = next(iter(by_way.values()))
        others = [
            "" if number is None else f"{number:,.0f}" for number in (one.prompt_tokens, one.prm_tokens)
        ]
        accuracies = [_cell(by_way[way].estimate) for way in chosen_by]
        cells.append([search, "" if one.n is None else str(one.n), f"{tokens:,.0f}", *accuracies, *others])
    grids = [Grid(cells, names=2)]
    differences = [result for result in results if result.minus is not None]
    if differences:
        cells = [["difference at equal tokens", "", "tokens", *DIFFERENCE]]
        for result in differences:
            names = [f"{result.search} - {result.minus}", ", ".join(filter(None, result.way))]
            cells.append([*names, f"{result.tokens:,.0f}", *_difference(result.estimate)])
        grids.append(Grid(cells, names=2))
    return grids


def processbench_table(results: Sequence[processbench.ProcessBenchResult]) -> Group:
    """Return the grids of ProcessBench as tables, one below the other, and what their numbers are."""
    return _below_each_other(*map(_aligned, processbench_grids(results)), PROCESSBENCH_NOTE)


def processbench_grids(results: Sequence[processbench.ProcessBenchResult]) -> list[Grid]:
    """Return the results of ProcessBench in percent, with 95 % intervals.

    With several PRMs they are named, and their differences follow in a second grid.
    """
    values = [result for result in results if result.minus is None]
    differences = [result for result in results if result.minus is not None]
    cells = [["", "", "F1", "on errors", "on correct", "threshold", "rows"]]
    for result in values:
        # Each split has its own oracle threshold, so their average has none.
        at = result.rule if result.threshold is None else f"{result.threshold:.3g}, {result.rule}"
        rows = f"{result.error_accuracy.problems:,} + {result.correct_accuracy.problems:,}"
        prm = (result.prm or "") if differences else ""
        cells.append([result.split, prm, *_f1_and_accuracies(result, ".1f"), at, rows])
    grids = [Grid(cells, names=2)]
    if differences:
        cells = [["difference", "", "F1", "on errors", "on correct"]]
        for result in differences:
            prms = f"{result.prm} - {result.minus}"
            cells.append([result.split, prms, *_f1_and_accuracies(result, "+.1f")])
        grids.append(Grid(cells, names=2))
    return grids


def _f1_and_accuracies(result: processbench.ProcessBenchResult, form: str) -> Cells:
    estimates = result.f1, result.error_accuracy, result.correct_accuracy
    return [_with_interval(estimate, form) for estimate in estimates]


def _with_interval(estimate: Estimate, form: str) -> str:
    if math.isnan(estimate.value):
        return "-"
    low, high = (_percent(end, form) for end in (estimate.low, estimate.high))
    return f"{_percent(estimate.value, form)} ({low} to {high})"


def calibration_table(results: Sequence[calibration.CalibrationResult]) -> Group:
    """Return each result as a line of metrics and a reliability diagram: bars for targets, | for scores."""
    blocks: list[str | Text | ColumnTable] = []
    for result in results:
        auc = "-" if result.auc is None else f"{result.auc:.3f}{_around(result.auc_interval, 3)}"
        lines = [
            f"{calibration_title(result)}: {result.count:,} {result.of} of {result.problems:,} problems",
            f"  Brier {result.brier:.4f}{_around(result.brier_interval, 4)}"
            + (f" ({result.noise:.4f} of it is noise of the rollouts)" if result.noise else "")
            + f"; calibration error {result.error:.3f}; AUC {auc}",
        ]
        if result.in_interval is not None:
            lines.append(f"  {result.in_interval:.1%} of the scores are within the interval of their label")
        cells = [["  score", result.of, "mean", result.against, f"  0{'0.5':^{BAR_WIDTH}}1"]]
        for part in result.bins:
            bar = list(("=" * round(part.target * (BAR_WIDTH - 1))).ljust(BAR_WIDTH))
            bar[round(part.score * (BAR_WIDTH - 1))] = "|"
            cells.append(
                [
                    f"  {part.low:.1f} to {part.high:.1f}",
                    f"{part.count:,}",
                    f"{part.score:.3f}",
                    f"{part.target:.3f}",
                    f"  [{''.join(bar)}]",  # rich would cut spaces at the end
                ]
            )
        blocks += [*[""] * bool(blocks), *map(Text, lines), _aligned(Grid(cells, names=1))]
    return Group(*blocks)


def calibration_grid(results: Sequence[calibration.CalibrationResult]) -> Grid:
    """Return a line of metrics per result, without the reliability diagrams."""
    cells = [["", "count", "problems", "Brier", "95 %", "calibration error", "AUC", "95 %"]]
    for result in results:
        counts = [f"{result.count:,}", f"{result.problems:,}"]
        brier = [f"{result.brier:.4f}", _range(result.brier_interval, 4)]
        auc = ["-", ""] if result.auc is None else [f"{result.auc:.3f}", _range(result.auc_interval, 3)]
        cells.append([calibration_title(result), *counts, *brier, f"{result.error:.3f}", *auc])
    return Grid(cells, names=1)


def training_grid(log: Sequence[Row]) -> Grid:
    """Return the log rows of a training that have validation figures, and the last one."""
    fields = ("loss", "eval_loss", "eval_brier", "eval_ece", "eval_auc")
    cells = [["step", "epoch", "loss", "validation loss", "Brier", "calibration error", "AUC"]]
    for row in log:
        if row is log[-1] or row.get("eval_loss") is not None:
            values = ["" if row.get(name) is None else f"{row[name]:.4f}" for name in fields]
            cells.append([f"{row['step']:,}", f"{row['epoch']:.4g}", *values])
    return Grid(cells, names=0)


def environment_table(findings: Sequence[Finding]) -> Table:
    """Return what `erprm doctor` found, with what to do in a line of its own."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for column in ("part", "state", "detail"):
        made.add_column(column, overflow="fold")
    for one in findings:
        remedy = f"\n{one.remedy}" if one.remedy else ""
        made.add_row(*(Text(visible(cell)) for cell in (one.part, one.state, one.detail + remedy)))
    return made


def _around(interval: tuple[float, float], digits: int) -> str:
    text = _range(interval, digits)
    return f" ({text})" if text else ""


def _range(interval: tuple[float, float], digits: int) -> str:
    low, high = interval
    return "" if math.isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"


def calibration_title(result: calibration.CalibrationResult) -> str:
    """Return what is compared with what, for headings and legends."""
    by = "" if result.aggregate is None else f" by {result.aggregate}"
    if result.eta is None:
        return f"{result.of}{by} against {result.against}"
    if result.against == calibration.RATES:
        return f"{result.of}, scores turned from eta {result.eta:g} into rates, against rates"
    return f"{result.of} against {result.against} at eta {result.eta:g}"


def names_of(result: BestOfNResult) -> tuple[str, str, str]:
    """Return the method, the PRM and the aggregate of a result, for people."""
    return TITLES.get(result.method, result.method), result.prm or "", result.aggregate or ""


def _cell(estimate: Estimate) -> str:
    return _percent(estimate.value, ".1f") + _half_width(estimate)


def _difference(estimate: Estimate) -> Cells:
    """Return the cells below DIFFERENCE."""
    interval = " to ".join(_percent(end, "+.1f") for end in (estimate.low, estimate.high))
    p = "" if estimate.p is None else f"{estimate.p:.2g}"
    return [_percent(estimate.value, "+.1f"), interval, p]


def _percent(share: float, form: str) -> str:
    return "-" if math.isnan(share) else f"{100 * share:{form}}"


def _half_width(estimate: Estimate) -> str:
    width = estimate.high - estimate.low
    return "" if math.isnan(estimate.value + width) else f" ±{50 * width:.1f}"


def _below_each_other(*parts: ColumnTable | str) -> Group:
    """Return tables and notes with an empty line between them."""
    return Group(parts[0], *(one for part in parts[1:] for one in ("", part)))


def _shown(cell: str) -> str:
    return visible(cell if len(cell) <= LONGEST_CELL else cell[:LONGEST_CELL] + "...")


def _aligned(grid: Grid) -> ColumnTable:
    """Return a grid as a table for the terminal."""
    names, numbers = ([[_shown(cell) for cell in cells] for cells in part] for part in grid.columns())
    return ColumnTable(names, numbers)
