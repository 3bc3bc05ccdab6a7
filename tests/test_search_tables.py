"""Rows of the search study (scripts/search_tables.py): intervals, and accuracies at equal tokens."""

import numpy as np
import pytest
from search_tables import USED, Cell, Table, chart, estimate, line_of, minus, test_rows, validation_rows

from tests.test_tree_search import tree

test_rows.__test__ = False  # type: ignore[attr-defined]  # it yields rows, and tests nothing


def cell(accuracy: list[float], tokens: float) -> Cell:
    """Return a search on two problems, whatever the way of choosing."""
    ways = ("weighted vote", "min", "last", "one draw", "limit")
    return Cell({way: np.array(accuracy) for way in ways}, dict.fromkeys(USED, 1.0) | {"tokens": tokens}, 8)


def measured(change: float = 0.0) -> dict[str, list[dict[tuple[str, int], Cell]]]:
    """Return the searches of two kinds of models, two seeds each; those of `er` are better by `change`."""
    return {
        kind: [
            {
                ("best-of-n", 4): cell([0.2 + more, 0.4 + more], 100),
                ("best-of-n", 8): cell([0.4 + more, 0.6 + more], 400),
                ("greedy particles", 4): cell([0.5, 0.5], 100),
                ("smc, eta 5, tau 0.9", 4): cell([0.5 + more, 0.7 + more], 200),
            }
            for _ in range(2)
        ]
        for kind, more in (("er", change), ("soft", 0.0))
    }


def test_an_interval_covers_seeds_and_problems() -> None:
    random = np.random.default_rng(0)
    seeds, problems = 6, 300
    seed_S1, problem_P = random.normal(size=(seeds, 1)) / 10, random.normal(size=problems) / 10
    by_seed, by_problem = estimate({"": seed_S1 + np.zeros(problems)}), estimate({"": problem_P[None]})
    for found, values in ((by_seed, seed_S1), (by_problem, problem_P)):
        error = 100 * values.std(ddof=1) / values.size**0.5
        assert found["value"] == pytest.approx(100 * values.mean(), abs=0.01)
        assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.2)
    both = estimate({"": seed_S1 + problem_P})
    assert both["high"] - both["low"] > by_seed["high"] - by_seed["low"]


def test_a_difference_is_paired_on_both() -> None:
    value_SP = np.random.default_rng(0).random((3, 50))
    assert minus({"": value_SP + 0.01}, {"": value_SP}) == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_accuracies_are_compared_at_equal_tokens() -> None:
    """Half-way in the logarithm between 100 and 400 tokens is 200; beyond the budgets it is the nearest."""
    table = Table(measured())
    at = [table.at_tokens("best-of-n", "min", tokens)["er"][0].tolist() for tokens in (50, 200, 900)]
    assert at == [pytest.approx(values) for values in ([0.2, 0.4], [0.3, 0.5], [0.4, 0.6])]


def test_the_rows_have_what_the_tables_show() -> None:
    trees = [tree(), tree()]  # whose success rate is 0.343
    trees[0].root.rate = 0.2
    *_, row = test_rows(1.3, measured(0.1), trees)
    assert (row["search"], row["n"], row["runs"], row["tokens"]) == ("smc, eta 5, tau 0.9", 4, 8, 200)
    assert row["weighted vote"]["value"] == pytest.approx(65)
    assert row["weighted vote"]["minus_best_of_n"]["value"] == pytest.approx(20)
    assert row["hard"]["value"] == pytest.approx(20) and row["minus_greedy"]["value"] == pytest.approx(15)
    assert row["by_kind"] == {"er": 70.0, "soft": 60.0} and row["er_minus_soft"]["value"] == pytest.approx(10)
    assert "vote - best-of-n's +20.0 (+20.0 to +20.0)" in line_of(row)
    (curve,) = (one for one in chart([row], 1.3).curves if one.name == row["search"])
    assert curve.points == [(200, row["weighted vote"]["value"])]
    assert [one["n"] for one in validation_rows(1.3, measured())] == [4, 8, 4, 4]
