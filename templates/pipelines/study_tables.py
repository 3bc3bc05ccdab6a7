"""Print the tables of study.sh, and write its summary and its figures.

    python study_tables.py RESULTS.jsonl [DIR]

RESULTS holds the row of study_pool.py and a row of study_result.py for each reward model. DIR (default: that
of RESULTS) gets summary.jsonl, with means over problems and all differences, and the plots, if matplotlib is
installed.

Differences are paired: the same problems and the same seeds, over the settings that both labels have.
Intervals are from a hierarchical bootstrap, which resamples problems and seeds. The primary comparisons at
each n are corrected by Holm's method.

S seeds, P problems, R resamples
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from erprm_cli.evaluation.arrays import Floats
from erprm_cli.evaluation.resampling import middle_95, resampled_means
from erprm_cli.reports.charts import Chart, Curve
from erprm_cli.reports.plots import save_plot

Row = dict[str, Any]
Setting = tuple[int, int | str]  # training problems; K, or "exact"

PAIRS = (("er1", "soft"), ("er1", "hard"), ("er2", "soft"), ("er2", "hard"), ("soft", "hard"))
PRIMARY = ("min@64", "min@16")
# A true difference of this many standard errors is found with a probability of 80 % at the first level of
# Holm's method for five comparisons, 1 % (two-sided): quantiles of the normal distribution at 0.995 and 0.8.
FOUND = 2.5758 + 0.8416


@dataclass(frozen=True, slots=True)
class Difference:
    """The accuracy with one label less that with another, the mean over `settings`; between 0 and 1.

    `error` is the standard error; `p_holm` is None if the comparison is not a primary one.
    """

    label: str
    minus: str
    measure: str
    settings: list[Setting]
    value: float
    low: float
    high: float
    error: float
    p: float
    p_holm: float | None = None


class Study:
    """The results of all models: `rows` by label, size, K and seed.

    Seeds that have fewer models than others are not complete and left out.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.policy, *models = rows
        counts = Counter(row["seed"] for row in models)
        self.seeds = sorted(seed for seed, count in counts.items() if count == max(counts.values()))
        models = [row for row in models if row["seed"] in self.seeds]
        self.rows = {(row["label"], row["size"], row["k"], row["seed"]): row for row in models}
        self.labels = list(dict.fromkeys(label for label, *_ in self.rows))
        self.sizes = sorted({size for _, size, _, _ in self.rows})
        self.ks = sorted({k for *_, k, _ in self.rows}, key=lambda k: (k == "exact", k))
        self.measures = list(dict.fromkeys(name for row in models for name in row["accuracy"]))
        self.budgets = sorted(int(name[4:]) for name in self.measures if name.startswith("min@"))
        exact = f"exact {self.policy['temperature']:g} "
        self.exact = exact if f"{exact}min@1" in self.measures else None  # the beginning of exact measures

    def settings(self, *labels: str, measure: str = "min@1") -> list[Setting]:
        """Return the settings in which every seed has a model of each label with this measure."""
        return [
            (size, k)
            for size in self.sizes
            for k in self.ks
            if all(
                measure in self.rows.get((label, size, k, seed), {"accuracy": ()})["accuracy"]
                for label in labels
                for seed in self.seeds
            )
        ]

    def accuracy(self, label: str, settings: Sequence[Setting], measure: str) -> Floats:
        """Return [S, P], the probability of a correct choice, the mean over the settings."""
        return np.array(
            [
                np.mean([self.rows[label, *one, seed]["accuracy"][measure] for one in settings], axis=0)
                for seed in self.seeds
            ]
        )

    def difference(
        self, label: str, minus: str, measure: str, settings: Sequence[Setting] = ()
    ) -> Difference | None:
        """Return the difference of two labels, by default over all settings of both; None without any."""
        chosen = list(settings) or self.settings(label, minus, measure=measure)
        if not chosen or not all(one in self.settings(label, minus, measure=measure) for one in chosen):
            return None
        difference_SP = self.accuracy(label, chosen, measure) - self.accuracy(minus, chosen, measure)
        mean_R = resampled_means(difference_SP)
        low, high = middle_95(mean_R)
        value, error = float(difference_SP.mean()), float(mean_R.std())
        return Difference(label, minus, measure, chosen, value, low, high, error, two_sided_p(mean_R))


def two_sided_p(mean_R: Floats) -> float:
    """Return the two-sided p-value of a difference from its resampled means; it is at least 2 / R.

    >>> two_sided_p(np.array([-1.0, 1.0, 1.0, 2.0]))
    0.5
    """
    tail = max(1, min(int((mean_R <= 0).sum()), int((mean_R >= 0).sum())))
    return min(1.0, 2 * tail / len(mean_R))


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


def comparisons(study: Study, measure: str, settings: Sequence[Setting] = ()) -> list[Difference]:
    """Return the differences of PAIRS."""
    found = [study.difference(*pair, measure, settings) for pair in PAIRS]
    return [one for one in found if one is not None]


def corrected(found: Sequence[Difference]) -> list[Difference]:
    """Return the comparisons of one measure with Holm's correction."""
    return [replace(one, p_holm=p) for one, p in zip(found, holm([one.p for one in found]), strict=True)]


def all_comparisons(study: Study) -> dict[str, list[Difference]]:
    """Return all comparisons by the title of their table."""
    end = f"@{study.budgets[-1]}"
    primary = [name for name in PRIMARY if name in study.measures]
    sampled = [name for name in study.measures if not name.startswith("exact")]
    secondary = [f"{way}{end}" for way in ("last", "prod", "mean", "weighted vote")]
    secondary += [name for name in sampled if name == "raft" or name.startswith("smc")]
    converted = [name for name in sampled if " at eta " in name and name.endswith(end)]
    titles = {"Primary comparisons": primary, "Secondary outcomes": secondary}
    titles |= {"Scores converted to another eta": converted}
    if study.exact:
        titles["Listed solutions only"] = [study.exact + name for name in (*primary, *secondary[:3])]
    tables = {title: [comparisons(study, name) for name in names] for title, names in titles.items()}
    tables["Primary comparisons"] = [corrected(found) for found in tables["Primary comparisons"]]
    shown = [f"min{end}", *[name for name in sampled if name.startswith("smc") and " draw" in name]]
    tables["Each setting"] = [
        comparisons(study, name, [one]) for name in shown for one in study.settings(measure=name)
    ]
    joined = {title: list(chain.from_iterable(found)) for title, found in tables.items()}
    return {title: found for title, found in joined.items() if found}


def headline(study: Study) -> str:
    """Return what the tables rest on, in a few sentences."""
    policy, count = study.policy, len(study.rows)
    told = [
        f"{count} reward models, seeds {', '.join(map(str, study.seeds))}.",
        f"{policy['problems']} problems, each with {policy['distinct']:.1f} different candidates on average.",
    ]
    if policy.get("optimal"):
        shares = (f"{100 * share:.1f} % at eta {eta}" for eta, share in policy["optimal"].items())
        told.append(f"Correct with the optimal policy: {', '.join(shares)}.")
    if len(study.seeds) == 1:
        told.append("One seed: intervals are over problems only.")
    return " ".join(told)


def difference_table(found: Sequence[Difference]) -> str:
    """Return differences as a Markdown table, in points."""
    by_setting = len({tuple(one.settings) for one in found}) > 1
    is_primary = any(one.p_holm is not None for one in found)
    head = ["measure", *["setting"] * by_setting, "difference", "points", "95 % interval", "p"]
    head += ["p (Holm)", "smallest that is found"] * is_primary
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for one in found:
        value, low, high, least = (100 * x for x in (one.value, one.low, one.high, FOUND * one.error))
        cells = [one.measure, *[setting_name(one.settings)] * by_setting, f"{one.label} − {one.minus}"]
        cells += [f"{value:+.1f}", f"{low:+.1f} to {high:+.1f}", f"{one.p:.2g}"]
        cells += [f"{one.p_holm:.2g}", f"{least:.1f}"] if one.p_holm is not None else []
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def setting_name(settings: Sequence[Setting]) -> str:
    if len(settings) > 1:
        return f"{len(settings)} settings"
    size, k = settings[0]
    return f"{size} problems, {'exact rates' if k == 'exact' else f'K = {k}'}"


def accuracy_table(study: Study, measure: str) -> str:
    """Return the accuracy of each label by size and K as a Markdown table, in %, the mean over seeds."""
    settings = list(
        dict.fromkeys(one for label in study.labels for one in study.settings(label, measure=measure))
    )
    head = [measure, *(setting_name([one]) for one in settings)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for label in study.labels:
        own = study.settings(label, measure=measure)
        cells = [
            f"{100 * study.accuracy(label, [one], measure).mean():.1f}" if one in own else ""
            for one in settings
        ]
        lines.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(lines)


def fit_table(study: Study) -> str:
    """Return how well the scores fit, the mean over all models of a label, as a Markdown table."""
    names = {
        "auc": "AUC",
        "brier": "Brier score against its own labels",
        "calibration_error": "calibration error",
    }
    lines = ["| label | " + " | ".join(names.values()) + " |", "|---" * (1 + len(names)) + "|"]
    for label in study.labels:
        rows = [row for (own, *_), row in study.rows.items() if own == label]
        known = [[row[name] for row in rows if row[name] is not None] for name in names]
        cells = [f"{np.mean(values):.4f}" if values else "–" for values in known]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(study: Study, tables: dict[str, list[Difference]]) -> list[Row]:
    """Return the rows of summary.jsonl: the policy, the models and the differences."""

    def means(row: Row) -> Row:
        found = {name: round(float(np.mean(values)), 4) for name, values in row["accuracy"].items()}
        return {"kind": "model", **row, "accuracy": found}

    rows = [means(study.policy) | {"kind": "policy"}, *map(means, study.rows.values())]
    for title, found in tables.items():
        rows += [{"kind": "difference", "table": title, **rounded(asdict(one))} for one in found]
    return rows


def read_summary(path: Path) -> tuple[Study, dict[str, list[Difference]]]:
    """Return the study and the tables of a summary.jsonl; a mean takes the place of the problems."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    tables: dict[str, list[Difference]] = {}
    for row in rows:
        if row.pop("kind") == "difference":
            settings = [(size, k) for size, k in row.pop("settings")]
            tables.setdefault(row.pop("table"), []).append(Difference(**row, settings=settings))
    return Study(row for row in rows if "accuracy" in row), tables


def rounded(row: Row) -> Row:
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}


# ---- Figures


Place = tuple[float, str, list[Setting], str]  # x, label, settings, measure


def curves(study: Study, lines: dict[str, list[Place]]) -> list[Curve]:
    """Return curves of accuracies in % with their 95 % intervals; places without settings are left out."""
    found = []
    for name, places in lines.items():
        points, intervals = [], []
        for x, label, settings, measure in places:
            if settings:
                value_SP = 100 * study.accuracy(label, settings, measure)
                low, high = middle_95(resampled_means(value_SP, 2_000))
                points.append((x, float(value_SP.mean())))
                intervals.append((low, high))
        if points:
            found.append(Curve(name, points, points, intervals))
    return found


def charts(study: Study) -> dict[str, Chart]:
    """Return accuracy against training size, against eta and against n, and the reliability diagram."""
    n, k, correct = study.budgets[-1], study.ks[-1], "% correct"
    measure, best = f"min@{n}", f"best of {n} by min"
    etas = {label: float(label[2:]) for label in study.labels if label.startswith("er")}
    etas |= {"soft": 0.0} if "soft" in study.labels else {}

    def of_k(label: str, k: int | str) -> list[Setting]:
        return [one for one in study.settings(label) if one[1] == k]

    by_size = {
        label: [(float(size), label, [(size, k)], measure) for size, _ in of_k(label, k)]
        for label in study.labels
    }
    by_eta = {
        f"K = {k}": [
            (etas[label], label, of_k(label, k), measure) for label in sorted(etas, key=etas.__getitem__)
        ]
        for k in study.ks
    }
    by_n = {
        label: [(float(n), label, study.settings(label), f"min@{n}") for n in study.budgets]
        for label in study.labels
    }
    size, eta, count = (curves(study, lines) for lines in (by_size, by_eta, by_n))
    fit = [reliability_curve(study, label) for label in study.labels]
    return {
        "size": Chart(
            f"training problems (K = {k}, {best})", correct, "x", "%", size, study.sizes, log_x=True
        ),
        "eta": Chart(f"eta ({best}, mean over sizes)", correct, "eta", "%", eta, sorted(etas.values())),
        "n": Chart(
            "candidates n (mean over sizes and K)", correct, "n", "%", count, study.budgets, log_x=True
        ),
        "calibration": Chart("mean score", "mean label", "score", "label", fit, diagonal="perfect"),
    }


def reliability_curve(study: Study, label: str) -> Curve:
    """Return the reliability diagram of all models of a label together."""
    bins = [one for (name, *_), row in study.rows.items() if name == label for one in row["bins"]]
    points = []
    for low in sorted({one["low"] for one in bins}):
        own = [one for one in bins if one["low"] == low]
        counts = [one["count"] for one in own]
        score, target = (
            float(np.average([one[name] for one in own], weights=counts)) for name in ("score", "target")
        )
        points.append((score, target))
    return Curve(label, points, points)


def main() -> None:
    source = Path(sys.argv[1])
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else source.parent
    study = Study(json.loads(line) for line in source.read_text(encoding="utf-8").splitlines())
    tables = all_comparisons(study)
    print(headline(study))
    for title, found in tables.items():
        print(f"\n{title}\n\n{difference_table(found)}")
    for measure in PRIMARY:
        if study.settings(study.labels[0], measure=measure):
            print(f"\n{accuracy_table(study, measure)}")
    print(f"\n{fit_table(study)}")
    with (folder / "summary.jsonl").open("w", encoding="utf-8") as out:
        for row in summary(study, tables):
            print(json.dumps(row), file=out)
    if find_spec("matplotlib"):
        for name, chart in charts(study).items():
            save_plot(chart, str(folder / f"study-{name}.svg"))


if __name__ == "__main__":
    main()
