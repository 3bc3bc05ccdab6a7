"""The tables of search_study.py: what was measured -> rows with intervals, lines of text and plots.

Accuracies are means over kinds of reward models, their training seeds, and problems. Intervals (95 %) are
from a bootstrap that resamples problems and seeds, and the difference of two searches is paired on both.
Accuracies are compared at equal generated tokens: that of the baseline is interpolated between its budgets,
linearly in the logarithm of the tokens, as `erprm bon --x tokens` does.

K kinds, S seeds of one kind, P problems, R resamples
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from search_settings import BASELINE, BUDGETS, GREEDY
from tiny_trees import Tree

from erprm_cli.evaluation.arrays import Floats
from erprm_cli.evaluation.resampling import middle_95, resampled_means
from erprm_cli.reports.charts import Chart, Curve
from erprm_cli.rows.row import Row

VOTE, DRAW, LIMIT = "weighted vote", "one draw", "limit"
WAYS = (VOTE, "min", "last", DRAW)  # of choosing an answer
USED = ("tokens", "prm_tokens", "prm_new_tokens", "distinct")
RESAMPLES = 2000
WEAK = 0.3  # success rate of the policy below which a problem counts as hard for it
DRAWN = (BASELINE, "beam, M = 4", "dvts, M = 4", "lookahead, M = 4", GREEDY, "smc, eta 5, tau 0.9")

Place = tuple[str, int]  # a search and its budget
ByKind = Mapping[str, Floats]  # [S, P] for each kind of reward model


class Cell(NamedTuple):
    """One search with one reward model: accuracies [P] by way of choosing, and means of what it used."""

    accuracy: dict[str, Floats]
    used: dict[str, float]
    runs: int


Measured = Mapping[str, Sequence[Mapping[Place, Cell]]]  # for each kind, one per seed


def read_cells(path: Path) -> dict[Place, Cell]:
    """Return what search_study.py has kept in a file."""
    rows = map(json.loads, path.read_text().splitlines())
    return {(row["search"], row["n"]): cell_of(row) for row in rows}


def cell_of(row: Row) -> Cell:
    """Return a row of search_study.py as a cell."""
    accuracy = {way: np.array(values) for way, values in row["accuracy"].items()}
    return Cell(accuracy, row["used"], row["runs"])


# ---- Intervals


def estimate(values: ByKind) -> dict[str, float]:
    """Return the mean over kinds, seeds and problems, in percent, with its 95 % interval.

    The kinds are fixed; seeds are resampled within each kind, and problems for all kinds together.
    """
    means = [
        resampled_means(value_SP, RESAMPLES, stream=number)
        for number, value_SP in enumerate(values.values(), start=1)
    ]
    found_R = 100 * np.mean(means, axis=0)
    low, high = middle_95(found_R)
    mean = 100 * np.mean([value_SP.mean() for value_SP in values.values()])
    return {"value": round(float(mean), 2), "low": round(low, 2), "high": round(high, 2)}


def minus(ours: ByKind, theirs: ByKind) -> dict[str, float]:
    """Return the difference of two searches, paired by reward model and problem."""
    return estimate({kind: ours[kind] - theirs[kind] for kind in ours})


# ---- Rows


class Table:
    """All searches at one temperature."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        self.places = list(next(iter(measured.values()))[0])

    def accuracy(self, place: Place, way: str) -> dict[str, Floats]:
        """Return [S, P] for each kind."""
        return {
            kind: np.array([cells[place].accuracy[way] for cells in by_seed])
            for kind, by_seed in self.measured.items()
        }

    def used(self, place: Place) -> dict[str, float]:
        """Return the means of what a search used."""
        every = [cells[place].used for by_seed in self.measured.values() for cells in by_seed]
        return {name: float(np.mean([used[name] for used in every])) for name in USED}

    def at_tokens(self, search: str, way: str, tokens: float) -> dict[str, Floats]:
        """Return the accuracy of a search when it generates so many tokens, interpolated between budgets.

        Outside its budgets, it is that of the nearest one.
        """
        places = [place for place in self.places if place[0] == search]
        points = [(self.used(place)["tokens"], place) for place in places]
        for (low, below), (high, above) in pairwise(points):
            if low < tokens < high:
                part = math.log(tokens / low) / math.log(high / low)
                first, last = self.accuracy(below, way), self.accuracy(above, way)
                return {kind: first[kind] + part * (last[kind] - first[kind]) for kind in first}
        nearest = min(points, key=lambda point: abs(point[0] - tokens))
        return self.accuracy(nearest[1], way)


def policy_row(temperature: float, trees: Sequence[Tree]) -> Row:
    """Return what is known exactly of the problems: the policy's accuracy and that of pi*, in percent."""
    return {
        "part": "policy",
        "temperature": temperature,
        "problems": len(trees),
        "hard_problems": sum(tree.root.rate < WEAK for tree in trees),
        "pass@1": percent([tree.root.rate for tree in trees]),
        "missing": percent([tree.missing for tree in trees]),
        "pi*": {f"{eta}": percent([tree.optimal_accuracy(eta) for tree in trees]) for eta in (1, 2, 5, 10)},
    }


def percent(values: Sequence[float]) -> float:
    """Return the mean in percent."""
    return round(100 * float(np.mean(values)), 2)


def test_rows(temperature: float, measured: Measured, trees: Sequence[Tree]) -> Iterator[Row]:
    """Yield a row per search and budget, with differences to the baseline at equal tokens.

    `hard` is the vote's difference on the problems that are hard for the policy, `minus_greedy` the vote's
    difference to greedy particles, and `er_minus_soft` the difference of two kinds of reward models.
    """
    table = Table(measured)
    is_hard_P = np.array([tree.root.rate < WEAK for tree in trees])
    for place in table.places:
        (search, n), used = place, table.used(place)
        runs = next(iter(measured.values()))[0][place].runs
        row: Row = {"part": "test", "temperature": temperature, "search": search, "n": n, "runs": runs}
        row |= {name: round(number, 2) for name, number in used.items()}
        for way in (*WAYS, *([LIMIT] if search.startswith("smc") else [])):
            values = table.accuracy(place, way)
            row[way] = estimate(values)
            if search != BASELINE and way != LIMIT:
                row[way]["minus_best_of_n"] = minus(values, table.at_tokens(BASELINE, way, used["tokens"]))
        voted = table.accuracy(place, VOTE)
        if search != BASELINE:
            theirs = table.at_tokens(BASELINE, VOTE, used["tokens"])
            row["hard"] = minus(only(voted, is_hard_P), only(theirs, is_hard_P))
            row["minus_greedy"] = minus(voted, table.at_tokens(GREEDY, VOTE, used["tokens"]))
        row["by_kind"] = {kind: round(100 * float(value_SP.mean()), 2) for kind, value_SP in voted.items()}
        row["er_minus_soft"] = minus({"": voted["er"]}, {"": voted["soft"]})
        yield row


def only(values: ByKind, chosen_P: Any) -> dict[str, Floats]:
    """Return the values of the chosen problems."""
    return {kind: value_SP[:, chosen_P] for kind, value_SP in values.items()}


def exact_rows(temperature: float, cells: Mapping[Place, Cell]) -> Iterator[Row]:
    """Yield the accuracy of one draw with exact values, where no reward model is in the loop."""
    for (search, n), cell in cells.items():
        drawn = {"": cell.accuracy[DRAW][None]}
        row: Row = {"part": "exact", "temperature": temperature, "search": search, "n": n, "runs": cell.runs}
        yield row | {DRAW: estimate(drawn)}


def validation_rows(temperature: float, measured: Measured) -> Iterator[Row]:
    """Yield the vote of each setting of SMC on the validation problems."""
    table = Table(measured)
    for place in table.places:
        voted = estimate(table.accuracy(place, VOTE))
        distinct = round(table.used(place)["distinct"], 2)
        row: Row = {"part": "validation", "temperature": temperature, "search": place[0], "n": place[1]}
        yield row | {"distinct": distinct, VOTE: voted}


# ---- For people


def line_of(row: Row) -> str:
    """Return a row as a line of text: accuracies in percent, differences in points."""
    if row["part"] == "policy":
        optimal = ", ".join(f"eta {eta}: {value}" for eta, value in row["pi*"].items())
        return (
            f"\ntemperature {row['temperature']}: {row['problems']} problems ({row['hard_problems']} hard), "
            f"pass@1 {row['pass@1']}, missing probability {row['missing']}, pi* at {optimal}"
        )
    name = f"{row['part']:10} {row['temperature']} n={row['n']:2} {row['search']:24}"
    cells = [f"{way} {row[way]['value']:5.1f}" for way in (*WAYS, LIMIT) if way in row]
    if "minus_best_of_n" in row.get(VOTE, {}):
        cells += [f"vote - best-of-n's {signed(row[VOTE]['minus_best_of_n'])}, hard {signed(row['hard'])}"]
        cells += [f"- greedy's {signed(row['minus_greedy'])}"]
    cells += [f"{field} {row[field]:.0f}" for field in USED if field in row]
    return "  ".join([name, *cells])


def signed(found: Mapping[str, float]) -> str:
    """Return a difference with its interval.

    >>> signed({"value": 1.23, "low": -0.5, "high": 3.0})
    '+1.2 (-0.5 to +3.0)'
    """
    return f"{found['value']:+.1f} ({found['low']:+.1f} to {found['high']:+.1f})"


def chart(rows: Iterable[Row], temperature: float) -> Chart:
    """Return the accuracy of the vote against generated tokens, with intervals."""
    curves = []
    own = [row for row in rows if row["part"] == "test" and row["temperature"] == temperature]
    for search in DRAWN:
        found = [row for row in own if row["search"] == search and row["n"] in BUDGETS]
        points = [(row["tokens"], row[VOTE]["value"]) for row in found]
        intervals = [(row[VOTE]["low"], row[VOTE]["high"]) for row in found]
        curves.append(Curve(search, points, points, intervals, dashed=search == BASELINE))
    label = f"tokens generated per problem, temperature {temperature}"
    ticks = [2**power for power in range(8, 12)]
    return Chart(label, "weighted vote, % correct", "tok", "%", curves, ticks, log_x=True, y_unit=5)
