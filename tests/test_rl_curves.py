"""Comparison of trainings at equal numbers of tokens (scripts/rl_curves.py): hand-made curves, coverage."""

from math import sqrt

import numpy as np
import pytest
from rl_curves import Curves, chart, over_seeds_and_problems, pushed_table, read_results, table

from erprm_cli.rows.row import Row

SPREAD = ((0.05, (3, 1)), (0.5, (1, 100)), (0.5, (3, 100)))  # of seeds, of problems and of both


def run(arm: str, seed: int, *points: tuple[int, str]) -> list[Row]:
    return [{"arm": arm, "seed": seed, "tokens": tokens, "solved": solved} for tokens, solved in points]


ROWS = [
    *run("grpo-outcome", 0, (0, "00"), (100, "01"), (200, "11")),
    *run("raft-er", 0, (0, "00"), (200, "11"), (400, "11")),
    *run("grpo-process-er-alone", 0, (0, "11"), (50, "00")),
]


def test_arms_are_compared_at_the_tokens_that_all_with_outcomes_reach() -> None:
    curves = Curves(ROWS)
    assert curves.budget == 200  # the arm without outcomes ends at 50 and stays level
    assert curves.area("grpo-outcome").tolist() == pytest.approx(np.array([[0.25, 0.75]]))
    assert curves.area("raft-er").tolist() == pytest.approx(np.array([[0.5, 0.5]]))
    assert curves.area("grpo-process-er-alone").tolist() == pytest.approx(np.array([[0.125, 0.125]]))
    assert curves.at("raft-er", 0.5).tolist() == [[0.5, 0.5]]
    assert curves.tokens("raft-er") == 400


def test_seeds_that_an_arm_lacks_are_left_out() -> None:
    assert Curves([*ROWS, *run("raft-er", 1, (0, "00"), (10, "11"))]).budget == 200


def test_one_seed_gives_the_interval_over_problems() -> None:
    found = over_seeds_and_problems(np.array([[0.0, 1.0] * 500]))
    half = 1.962 * sqrt(0.25 / 999)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)


def test_intervals_hold_the_mean_of_all_seeds_and_problems_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        seeds, problems, rest = (random.normal(0, scale, shape) for scale, shape in SPREAD)
        found = over_seeds_and_problems(seeds + problems + rest)
        hits += found.low <= 0 <= found.high
    assert 0.93 <= hits / 400 <= 1


def test_equal_values_have_no_interval() -> None:
    found = over_seeds_and_problems(np.ones((3, 5)))
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_results_of_the_study_make_its_tables_and_its_plot() -> None:
    rows = read_results()
    arms = {row["arm"] for row in rows if not row["arm"].endswith("pushed")}
    assert len(list(table(rows))) == 2 + len(arms)
    assert len(list(pushed_table(rows))) > 2
    for is_pushed in (False, True):
        assert all(curve.points[0][0] == 0 for curve in chart(rows, is_pushed).curves)
