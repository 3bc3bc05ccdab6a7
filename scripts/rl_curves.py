"""The results of rl_study.py: accuracy against generated tokens, with intervals over problems and seeds.

Arms differ in the length of their solutions, so they are compared at equal numbers of generated tokens: up to
the budget that every run with outcomes reaches. Between two evaluations the accuracy of each problem is
interpolated linearly. What is compared is the mean accuracy over the budget, that is the area under the
curve; it was chosen before the runs, as all arms may end near 100 %.

S seeds, P problems, T points of the grid of tokens
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson

from erprm_cli.evaluation.arrays import Floats
from erprm_cli.evaluation.intervals import Estimate, t975
from erprm_cli.reports.charts import Chart, Curve
from erprm_cli.rows.row import Row

RESULTS = Path(__file__).with_name("rl_study.jsonl")
BASELINE = "grpo-outcome"
# Columns of the table of the pushed runs, and what they are called there.
SOLUTIONS = {
    "outcome": "outcome",
    "prm_score": "PRM score",
    "kl": "KL per token",
    "completion_tokens": "tokens",
    "num_steps": "steps",
    "without_answer": "without answer",
}
GRID = 120  # intervals of the grid; halves and quarters of the budget are on it


def read_results() -> list[Row]:
    """Return the rows of the study."""
    return [orjson.loads(line) for line in RESULTS.read_bytes().splitlines()]


def runs_of(rows: Sequence[Row], is_pushed: bool) -> dict[str, dict[int, list[Row]]]:
    """Return the rows of the gentle or the pushed runs by arm and seed; the names are without "-pushed"."""
    runs: dict[str, dict[int, list[Row]]] = {}
    for row in rows:
        if row["arm"].endswith("-pushed") == is_pushed:
            arm = row["arm"].removesuffix("-pushed")
            runs.setdefault(arm, {}).setdefault(row["seed"], []).append(row)
    return runs


def over_seeds_and_problems(value_SP: Floats) -> Estimate:
    """Return the mean of values, one per seed and problem, with a 95 % interval over both.

    Seeds and problems are crossed random effects: var = (MS_S + MS_P - MS_SP) / (S P), by the mean squares
    of a two-way analysis of variance, and Satterthwaite's degrees of freedom. With one seed, or if a
    component would be negative, what remains is the variance over the other.
    """
    seeds, problems = value_SP.shape
    mean = float(value_SP.mean())
    of_seed_S1 = value_SP.mean(1, keepdims=True) - mean
    of_problem_1P = value_SP.mean(0, keepdims=True) - mean
    square_P = seeds * float((of_problem_1P**2).sum()) / (problems - 1)
    squares, freedoms = [square_P], [problems - 1]
    if seeds > 1:
        square_S = problems * float((of_seed_S1**2).sum()) / (seeds - 1)
        rest_SP = value_SP - mean - of_seed_S1 - of_problem_1P
        square_SP = float((rest_SP**2).sum()) / ((seeds - 1) * (problems - 1))
        both = [square_S, square_P, -square_SP]
        candidates = [
            ([square_S], [seeds - 1]),
            ([square_P], [problems - 1]),
            (both, [seeds - 1, problems - 1, (seeds - 1) * (problems - 1)]),
        ]
        squares, freedoms = max(candidates, key=lambda candidate: sum(candidate[0]))
    total = sum(squares)
    scale = sum(square**2 / freedom for square, freedom in zip(squares, freedoms, strict=True))
    freedom = total**2 / scale if scale else 1.0
    half = t975(max(1, int(freedom))) * (total / value_SP.size) ** 0.5
    return Estimate(mean, mean - half, mean + half, problems)


class Curves:
    """The curves of all arms on one grid of tokens."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Take the rows of the study; seeds that not all arms have are left out, and arms that are pushed."""
        by_run = runs_of(rows, is_pushed=False)
        self.seeds = sorted(set.intersection(*(set(runs) for runs in by_run.values())))
        self.runs = {arm: [runs[seed] for seed in self.seeds] for arm, runs in by_run.items()}
        ends = [
            run[-1]["tokens"] for arm, runs in self.runs.items() for run in runs if not arm.endswith("alone")
        ]
        self.budget = min(ends)
        self.tokens_T = np.linspace(0, self.budget, GRID + 1)
        self.solved = {arm: np.stack([self._solved(run) for run in runs]) for arm, runs in self.runs.items()}

    def _solved(self, run: Sequence[Row]) -> Floats:
        """Return which problems [P, T] the policy of one run solves; a curve that ends early stays level."""
        tokens = [row["tokens"] for row in run]
        solved_EP = np.stack([solved(row) for row in run])  # E evaluations
        return np.stack([np.interp(self.tokens_T, tokens, solved_E) for solved_E in solved_EP.T])

    def area(self, arm: str) -> Floats:
        """Return the mean over the budget [S, P] of whether a problem is solved."""
        solved_SPT = self.solved[arm]
        middle_SPT = (solved_SPT[..., 1:] + solved_SPT[..., :-1]) / 2
        area_SP: Floats = middle_SPT.mean(-1)
        return area_SP

    def at(self, arm: str, share: float) -> Floats:
        """Return which problems are solved [S, P] after this share of the budget."""
        return self.solved[arm][..., round(share * GRID)]

    def tokens(self, arm: str) -> float:
        """Return the tokens that an arm generated in all, the mean over seeds."""
        return float(np.mean([run[-1]["tokens"] for run in self.runs[arm]]))


def percent(estimate: Estimate, sign: str = "") -> str:
    """Return an estimate in percent with its interval."""
    value, low, high = (100 * number for number in (estimate.value, estimate.low, estimate.high))
    low, high = max(low, -100.0), min(high, 100.0)  # few seeds that differ much say nothing
    return f"{value:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table that compares the arms."""
    curves = Curves(rows)
    yield (
        f"| arm, {len(curves.seeds)} of 3 seeds | tokens | mean accuracy over {curves.budget:,} tokens, % "
        f"| minus {BASELINE} | after half of them, % | after all, % |"
    )
    yield "|---|---|---|---|---|---|"
    baseline_SP = curves.area(BASELINE)
    for arm in curves.runs:
        area_SP = curves.area(arm)
        minus = "" if arm == BASELINE else percent(over_seeds_and_problems(area_SP - baseline_SP), "+")
        half, end = (percent(over_seeds_and_problems(curves.at(arm, share))) for share in (0.5, 1))
        mean = percent(over_seeds_and_problems(area_SP))
        yield f"| {arm} | {curves.tokens(arm):,.0f} | {mean} | {minus} | {half} | {end} |"


def pushed_table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table of the pushed runs: their accuracy, and what their solutions are like.

    The latter are of the first and the last quarter of the run.
    """
    runs = runs_of([row for row in rows if row["tokens"]], is_pushed=True)
    baseline = runs[BASELINE]
    steps = ", ".join(str(row["step"]) for row in baseline[0])
    columns = [f"greedy accuracy after {steps} steps, %", "each seed in the end", f"minus {BASELINE}"]
    columns += SOLUTIONS.values()
    yield "| arm | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for arm, by_seed in runs.items():
        seeds = [seed for seed in by_seed if seed in baseline]
        at_steps = list(zip(*(by_seed[seed] for seed in seeds), strict=True))  # the same step of each seed
        accuracy = ", ".join(f"{100 * np.mean([solved(row) for row in same]):.1f}" for same in at_steps)
        gain_SP = np.stack([solved(by_seed[seed][-1]) - solved(baseline[seed][-1]) for seed in seeds])
        minus = percent(over_seeds_and_problems(gain_SP), "+") if arm != BASELINE else ""
        figures = [
            " to ".join(f"{np.mean([row[name] for row in same]):.2g}" for same in (at_steps[0], at_steps[-1]))
            for name in SOLUTIONS
        ]
        ends = ", ".join(f"{100 * solved(row).mean():.1f}" for row in at_steps[-1])
        yield "| " + " | ".join([arm, accuracy, ends, minus, *figures]) + " |"


def solved(row: Row) -> Floats:
    """Return whether each problem is solved [P]."""
    return np.array([float(bit) for bit in row["solved"]])


def chart(rows: Sequence[Row], is_pushed: bool) -> Chart:
    """Return accuracy against tokens of the gentle or the pushed arms with the ER PRM, the mean over seeds.

    Seeds that not all arms have are left out. Dashed without the outcome.
    """
    every = runs_of(rows, is_pushed)
    runs = {arm: by_seed for arm, by_seed in every.items() if not arm.endswith(("soft", "hard"))}
    seeds = set.intersection(*(set(by_seed) for by_seed in runs.values()))
    drawn = []
    for arm, by_seed in runs.items():
        marks = [
            (float(np.mean([row["tokens"] for row in same])), 100 * float(np.mean([*map(solved, same)])))
            for same in zip(*(by_seed[seed] for seed in seeds), strict=True)
        ]
        drawn.append(Curve(arm, marks, marks, dashed=arm.endswith("alone")))
    return Chart("generated tokens", "greedy accuracy, %", "tok", "%", drawn)
