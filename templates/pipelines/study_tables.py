"""Print the tables of study.sh, and write its figures.

    python study_tables.py RESULTS.jsonl [DIR]

RESULTS holds a row of study_result.py for each reward model. DIR (default: that of RESULTS) gets
summary.jsonl, a row for each model and each difference, and the plots, if matplotlib is installed.

Intervals are from a hierarchical bootstrap: problems and seeds are both resampled, and differences are paired
on both. The five primary comparisons of each n are corrected by Holm's method.

S seeds, C settings (sizes and K), P problems, R resamples
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from erprm_cli.evaluation.arrays import Floats
from erprm_cli.reports.charts import Chart, Curve
from erprm_cli.reports.plots import save_plot

Row = dict[str, Any]

RESAMPLES = 10_000
PRIMARY = (("er1", "soft"), ("er1", "hard"), ("er2", "soft"), ("er2", "hard"), ("soft", "hard"))
PRIMARY_N = (16, 64)
FIRST = "min"  # the way of choosing of the primary comparisons
# A difference of this many standard errors is found with a probability of 80 % at the strictest level of
# Holm's method, 1 % (two-sided): the quantiles at 0.995 and 0.8 of the normal distribution, added.
FOUND = 2.5758 + 0.8416


@dataclass(frozen=True, slots=True)
class Difference:
    """The accuracy with one label minus that with another, the mean over the settings that have both."""

    label: str
    minus: str
    way: str
    n: int
    value: float
    low: float
    high: float
    error: float
    p: float
    p_holm: float | None = None


class Study:
    """The results of all models."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = {(row["label"], row["size"], row["k"], row["seed"]): row for row in rows}
        self.labels = list(dict.fromkeys(label for label, *_ in self.rows))
        self.sizes = sorted({size for _, size, _, _ in self.rows})
        self.ks = sorted({k for *_, k, _ in self.rows})
        self.seeds = sorted({seed for *_, seed in self.rows})
        accuracy = next(iter(self.rows.values()))["accuracy"]
        self.ways = list(accuracy)
        self.budgets = [int(n) for n in accuracy[FIRST]]

    def settings(self, *labels: str) -> list[tuple[int, int]]:
        """Return the (size, K) for which there are models of all these labels."""
        return [
            (size, k)
            for size in self.sizes
            for k in self.ks
            if all((label, size, k, seed) in self.rows for label in labels for seed in self.seeds)
        ]

    def accuracy(self, label: str, settings: Sequence[tuple[int, int]], way: str, n: int) -> Floats:
        """Return [S, P], the probability of a correct choice, the mean over the settings."""
        return np.array(
            [
                np.mean([self.rows[label, *one, seed]["accuracy"][way][str(n)] for one in settings], axis=0)
                for seed in self.seeds
            ]
        )

    def difference(self, label: str, minus: str, way: str, n: int) -> Difference:
        """Return the difference of two labels with its 95 % interval and its two-sided p-value."""
        settings = self.settings(label, minus)
        difference_SP = self.accuracy(label, settings, way, n) - self.accuracy(minus, settings, way, n)
        found_R = resampled_means(difference_SP)
        low, high = np.quantile(found_R, [0.025, 0.975])
        tail = min((found_R <= 0).mean(), (found_R >= 0).mean())
        return Difference(
            label,
            minus,
            way,
            n,
            float(difference_SP.mean()),
            float(low),
            float(high),
            float(found_R.std()),
            min(1.0, 2 * max(float(tail), 1 / RESAMPLES)),
        )


def resampled_means(value_SP: Floats) -> Floats:
    """Return [R], the means of resampled seeds and problems."""
    rng = np.random.default_rng(0)
    seeds, problems = value_SP.shape
    weight_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    weight_RP = rng.multinomial(problems, np.full(problems, 1 / problems), RESAMPLES) / problems
    found_R: Floats = ((weight_RS @ value_SP) * weight_RP).sum(1)
    return found_R


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected by Holm's method (1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


def primary(study: Study) -> list[Difference]:
    """Return the primary comparisons, corrected for each n."""
    found = []
    for n in sorted(set(PRIMARY_N) & set(study.budgets)):
        each = [
            study.difference(*pair, FIRST, n)
            for pair in PRIMARY
            if all(label in study.labels for label in pair)
        ]
        corrected = holm([one.p for one in each])
        found += [replace(one, p_holm=p) for one, p in zip(each, corrected, strict=True)]
    return found


def secondary(study: Study) -> list[Difference]:
    """Return the same comparisons for the other ways of choosing, uncorrected."""
    return [
        study.difference(*pair, way, study.budgets[-1])
        for way in study.ways
        if way not in (FIRST, "majority vote")  # a majority has no reward model
        for pair in PRIMARY
        if all(label in study.labels for label in pair)
    ]


def difference_table(found: Sequence[Difference]) -> str:
    """Return differences as a Markdown table, in points."""
    lines = [
        "| chosen by | n | difference | points | 95 % interval | p | p (Holm) | smallest that is found |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        p_holm = "" if one.p_holm is None else f"{one.p_holm:.2g}"
        value, low, high, found_from = (100 * x for x in (one.value, one.low, one.high, FOUND * one.error))
        lines.append(
            f"| {one.way} | {one.n} | {one.label} − {one.minus} | {value:+.1f} | {low:+.1f} to {high:+.1f} | "
            f"{one.p:.2g} | {p_holm} | {found_from:.1f} |"
        )
    return "\n".join(lines)


def accuracy_table(study: Study, way: str, n: int) -> str:
    """Return the accuracy of each label by size and K as a Markdown table, in %, the mean over seeds."""
    settings = study.settings()
    head = ["label", *(f"{size} problems, K = {k}" for size, k in settings)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for label in study.labels:
        own = study.settings(label)
        cells = [
            f"{100 * study.accuracy(label, [one], way, n).mean():.1f}" if one in own else ""
            for one in settings
        ]
        lines.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(lines)


def fit_table(study: Study) -> str:
    """Return how well the scores fit, the mean over all models of a label, as a Markdown table."""
    lines = ["| label | AUC | Brier score against its own labels |", "|---|---|---|"]
    for label in study.labels:
        rows = [row for (name, *_), row in study.rows.items() if name == label]
        auc, brier = (np.mean([row[field] for row in rows]) for field in ("auc", "brier"))
        lines.append(f"| {label} | {auc:.4f} | {brier:.4f} |")
    return "\n".join(lines)


def mean_and_interval(
    study: Study, label: str, settings: Sequence[tuple[int, int]], n: int
) -> tuple[float, Any]:
    """Return an accuracy by FIRST in % and its 95 % interval."""
    value_SP = 100 * study.accuracy(label, settings, FIRST, n)
    low, high = np.quantile(resampled_means(value_SP), [0.025, 0.975])
    return float(value_SP.mean()), (float(low), float(high))


def chart(
    study: Study, x_label: str, lines: dict[str, list[tuple[float, str, Any, int]]], log_x: bool
) -> Chart:
    """Return a chart of accuracies; a point of a line is (x, label, settings, n)."""
    curves = []
    for name, places in lines.items():
        found = [mean_and_interval(study, label, settings, n) for _, label, settings, n in places]
        points = [(place[0], value) for place, (value, _) in zip(places, found, strict=True)]
        curves.append(Curve(name, points, points, [interval for _, interval in found]))
    ticks = sorted({x for curve in curves for x, _ in curve.points})
    return Chart(x_label, "% correct", "x", "%", curves, ticks, log_x=log_x)


def draw(study: Study, folder: Path) -> None:
    """Draw accuracy against training size, against eta and against n."""
    n, k = study.budgets[-1], study.ks[-1]
    etas = {label: float(label[2:]) for label in study.labels if label.startswith("er")}
    etas |= {"soft": 0.0} if "soft" in study.labels else {}
    by_eta = sorted(etas, key=etas.__getitem__)
    charts = {
        "size": chart(
            study,
            f"training problems (K = {k}, best of {n})",
            {label: [(size, label, [(size, k)], n) for size in study.sizes] for label in study.labels},
            log_x=True,
        ),
        "eta": chart(
            study,
            f"eta (best of {n}, mean over sizes and K)",
            {
                f"K = {k}": [(etas[label], label, [(s, k) for s in study.sizes], n) for label in by_eta]
                for k in study.ks
            },
            log_x=False,
        ),
        "n": chart(
            study,
            "candidates n (mean over sizes and K)",
            {label: [(n, label, study.settings(label), n) for n in study.budgets] for label in study.labels},
            log_x=True,
        ),
    }
    for name, one in charts.items():
        save_plot(one, str(folder / f"accuracy-{name}.svg"))


def main() -> None:
    source = Path(sys.argv[1])
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else source.parent
    study = Study(json.loads(line) for line in source.read_text(encoding="utf-8").splitlines())
    first, others = primary(study), secondary(study)
    print(f"{len(study.rows)} models, {len(study.seeds)} seeds\n")
    print("Primary comparisons\n\n" + difference_table(first))
    print("\nThe same, other ways of choosing\n\n" + difference_table(others))
    for n in study.budgets[1:]:
        print(f"\nBest of {n} by {FIRST}, % correct\n\n" + accuracy_table(study, FIRST, n))
    print("\nFit\n\n" + fit_table(study))
    with (folder / "summary.jsonl").open("w", encoding="utf-8") as out:
        for row in study.rows.values():
            means = {
                way: {n: round(float(np.mean(values)), 4) for n, values in by_n.items()}
                for way, by_n in row["accuracy"].items()
            }
            print(json.dumps(row | {"accuracy": means}), file=out)
        for one in [*first, *others]:
            print(json.dumps(asdict(one)), file=out)
    if find_spec("matplotlib"):
        draw(study, folder)


if __name__ == "__main__":
    main()
