"""The tables and the plot of the study of budgets: docs/budgets.md, from the rows of budget_frontier.py."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from erprm_cli.rows.row import Row

RESULTS = Path(__file__).with_name("budget_frontier.jsonl")
BASELINE_NAME = "K = 16"
TESTED_AT = (0.7, 1.3)  # temperatures of best-of-n
BUDGETS = (16, 64)  # its n
LEAST_SEEDS = 5  # with fewer, an interval says too little about the noise of training


def best_of(n: int, temperature: float) -> str:
    return f"best-of-{n}, T = {temperature}"


MARGINS = {"AUC": 0.002, "Brier": 0.003} | {best_of(16, temperature): 0.01 for temperature in TESTED_AT}
NAMES = ("AUC", "Brier", *(best_of(n, temperature) for temperature in TESTED_AT for n in BUDGETS))


def read_results(path: Path = RESULTS) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def is_not_inferior(row: Row) -> bool:
    """Return whether the interval excludes a loss of the margin; of the Brier score, less is better."""
    margin = MARGINS[row["figure"]]
    is_within = row["high"] <= margin if row["figure"] == "Brier" else row["low"] >= -margin
    return bool(is_within) and row["seeds"] >= LEAST_SEEDS


def table(rows: Sequence[Row]) -> str:
    """Return the table of docs/budgets.md; bold differences are not inferior to the baseline."""
    lines = [f"| labels | share | seeds | {' | '.join(NAMES)} |", "|---" * (3 + len(NAMES)) + "|"]
    by_arm: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        by_arm[row["arm"]][row["figure"]] = row
    for arm, of_figure in by_arm.items():
        cells = [cell(of_figure[name], arm == BASELINE_NAME) for name in NAMES]
        first = of_figure[NAMES[0]]
        lines.append(f"| {arm} | {first['share']:.0%} | {first['seeds']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(row: Row, is_baseline: bool) -> str:
    """Return a figure of the baseline, or a difference from it; best-of-n in points."""
    scale, digits = (100, 1) if row["figure"].startswith("best") else (1, 4)
    if is_baseline:
        return f"{scale * row['value']:.{digits}f}"
    difference, low, high = (scale * row[name] for name in ("difference", "low", "high"))
    shown = f"{difference:+.{digits}f}"
    if row["figure"] in MARGINS and is_not_inferior(row):
        shown = f"**{shown}**"
    return f"{shown} [{low:+.{digits}f}, {high:+.{digits}f}]"


def smallest_shares(rows: Sequence[Row]) -> str:
    """Return the table of the smallest shares of the completions that are not inferior."""
    passed = {
        name: {BASELINE_NAME} | {row["arm"] for row in rows if row["figure"] == name and is_not_inferior(row)}
        for name in MARGINS
    }
    passed["all four"] = set.intersection(*passed.values())
    share = {row["arm"]: row["share"] for row in rows}
    lines = ["| figure | margin | smallest share | labels |", "|---|---|---|---|"]
    for name, arms in passed.items():
        least = min(arms, key=lambda arm: share[arm])
        margin = "1 point" if name.startswith("best") else MARGINS.get(name, "each")
        lines.append(f"| {name} | {margin} | {share[least]:.0%} | {least} |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the difference of each figure from the baseline against the completions.

    Labels of a fixed K are joined; the margin is shaded.
    """
    from matplotlib.figure import Figure

    panels = Figure(figsize=(11, 7), layout="constrained")
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    fixed = sorted((arm for arm in arms if arm.startswith("K = ") and "," not in arm), key=arms.index)
    for axes, name in zip(panels.subplots(2, 3).flat, NAMES, strict=True):
        scale = 100 if name.startswith("best") else 1
        of_arm = {row["arm"]: row for row in rows if row["figure"] == name}
        difference = {arm: scale * row["difference"] for arm, row in of_arm.items()}
        if name in MARGINS:
            axes.axhspan(0, scale * MARGINS[name] * (1 if name == "Brier" else -1), color="0.9")
        line = sorted((of_arm[arm]["share"], difference[arm]) for arm in fixed)
        axes.plot(*zip(*line, strict=True), color="0.4", linewidth=1)
        for number, arm in enumerate(arms):
            low, high = (scale * of_arm[arm][end] for end in ("low", "high"))
            is_fixed = arm in fixed
            axes.errorbar(
                [of_arm[arm]["share"]],
                [difference[arm]],
                yerr=[[difference[arm] - low], [high - difference[arm]]],
                fmt="o" if is_fixed else "sD^vP*X<>"[number % 9],
                color="0.4" if is_fixed else f"C{number % 10}",
                elinewidth=0.8,
                label=None if is_fixed else arm,
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks([1 / 16, 1 / 8, 1 / 5, 1 / 2, 1], ["1/16", "1/8", "1/5", "1/2", "1"], minor=False)
        axes.set_title(f"{name}: difference", fontsize="medium")
        axes.set_xlabel("share of the completions", fontsize="small")
        axes.grid(alpha=0.3)
    panels.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    panels.savefig(path, dpi=110)
