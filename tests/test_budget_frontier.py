"""The study of budgets (scripts/budget_frontier.py): what it reads, counts and decides."""

import math
from typing import Any

import pytest
from budget_frontier import (
    ARMS,
    BASELINE,
    Arm,
    Draws,
    disputed,
    training_rows,
)
from budget_tables import MARGINS, cell, is_not_inferior, smallest_shares
from tiny_trees import Tree
from tree_scores import token_trie, tree_scores

from erprm_cli.policy.step_choice import bisect
from erprm_cli.prm.scorer import Scorer

SOLUTIONS = {
    ("Step 1: more, 2 + 3 = 5.", "The answer is: 5"): (0.5, 1.0),
    ("Step 1: more, 2 + 3 = 5.", "Step 2: half, 5 / 2 = 2.", "The answer is: 2"): (0.3, 0.0),
    ("Step 1: less, 3 - 2 = 1.", "The answer is: 1"): (0.2, 0.0),
}


def row_of(solutions: dict[tuple[str, ...], tuple[float, float]]) -> dict[str, Any]:
    rows = [
        {"steps": list(steps), "num_tokens": [9] * len(steps), "reward": reward, "log_probs": [math.log(p)]}
        for steps, (p, reward) in solutions.items()
    ]
    problem = "Tom has 2 coins. Tom gets 3 more. How many coins does Tom have now?"
    return {"id": "a", "problem": problem, "temperatures": [1.0], "solutions": rows}


def test_a_trie_is_read_as_the_solutions_one_by_one() -> None:
    own = Tree(row_of(SOLUTIONS), 1.0)
    short = Tree(row_of({("The answer is: 5",): (1.0, 1.0)}), 1.0)  # so that tries are padded
    scorer = Scorer("tiny", prm_format="er-prm")
    scores, _ = tree_scores(scorer, [token_trie(tree, scorer.tagger) for tree in (own, short)])
    assert len(scores) == len(own.prefixes()) == len(own.nodes) - 1 == 6
    of_prefix = {id(node): score for node, score in zip(own.prefixes(), scores, strict=True)}
    rows = [{"problem": own.problem, "steps": list(one.steps)} for one in own.solutions]
    for row, solution in zip(scorer.score(rows), own.solutions, strict=True):
        assert [of_prefix[id(node)] for node in own.path(solution)] == pytest.approx(row["scores"], abs=1e-5)


def test_equal_solutions_are_one_row_with_the_completions_of_all() -> None:
    """Each of the 8 solutions has 4 completions of its prefixes and its own reward; a prefix costs 4."""
    tree, draws = Tree(row_of(SOLUTIONS), 1.0), Draws(Arm("", 4, count_own=True), seed=0)
    rows = list(training_rows(tree, draws))
    assert len({row["solution"] for row in rows}) == len(rows) > 1
    assert sum(len(row["rollouts"][0]) for row in rows) == 8 * (4 + 1)
    assert sum(len(row["rollouts"][-1]) for row in rows) == 8
    prefixes = {tuple(row["steps"][:count]) for row in rows for count in range(1, len(row["steps"]))}
    assert draws.completions == 4 * len(prefixes)


def test_the_first_completions_are_the_same_in_every_arm() -> None:
    tree = Tree(row_of(SOLUTIONS), 1.0)
    few, many = (list(training_rows(tree, Draws(Arm("", k, per_problem=1), seed=1))) for k in (2, 16))
    for one, other in zip(few[0]["rollouts"][:-1], many[0]["rollouts"][:-1], strict=True):
        assert (len(one), len(other), one) == (2, 16, other[:2])


def test_bisection_has_completions_in_wrong_solutions_only() -> None:
    tree = Tree(row_of(SOLUTIONS), 1.0)
    for row in training_rows(tree, Draws(Arm("", 4, next_steps=bisect), seed=0)):
        *lists, (outcome, *_) = row["rollouts"]
        visited = sum(rewards is not None for rewards in lists)
        assert visited == (0 if outcome else len(lists).bit_length())


def test_a_prefix_is_disputed_if_it_or_a_neighbour_is_not_certain() -> None:
    certain = Tree(row_of({("a", "b", "c"): (1.0, 1.0)}), 1.0)
    draws = Draws(Arm("", 16, pilot=2), seed=0)
    assert disputed(certain, certain.solutions, draws) == set()
    for row in training_rows(certain, draws):
        assert [len(rewards) for rewards in row["rollouts"]] == [16, 16, 8]  # 8 copies of 2, and of 1
    open_ = Tree(row_of(SOLUTIONS), 1.0)
    (first, _) = open_.root.children.values()
    assert id(first) in disputed(open_, open_.solutions, draws)  # it leads to both outcomes


@pytest.mark.parametrize(
    ("figure", "low", "high", "expected"),
    [
        ("AUC", -0.0019, 0.01, True),
        ("AUC", -0.0021, 0.01, False),
        ("Brier", -0.01, 0.0029, True),
        ("Brier", -0.01, 0.0031, False),
        ("best-of-16, T = 1.3", -0.009, 0.02, True),
        ("best-of-16, T = 1.3", -0.011, 0.02, False),
    ],
)
def test_not_inferior_means_that_the_interval_excludes_a_loss_of_the_margin(
    figure: str, low: float, high: float, expected: bool
) -> None:
    row = {"figure": figure, "difference": 0.0, "low": low, "high": high, "seeds": 5}
    assert is_not_inferior(row) is expected and cell(row, False).startswith("**") is expected
    assert not is_not_inferior(row | {"seeds": 1})


def test_the_smallest_share_is_that_of_the_cheapest_labels_that_are_not_inferior() -> None:
    def rows(arm: str, share: float, **low: float) -> list[dict[str, Any]]:
        made = {"arm": arm, "share": share, "seeds": 5, "high": 0.0}
        return [made | {"figure": figure, "low": low.get(figure, 0.0)} for figure in MARGINS]

    found = [*rows("K = 16", 1.0), *rows("K = 4", 0.25), *rows("K = 2", 0.125, AUC=-0.01)]
    lines = smallest_shares(found).splitlines()
    assert lines[2] == "| AUC | 0.002 | 25% | K = 4 |" and lines[-1] == "| all four | each | 25% | K = 4 |"
    assert lines[3] == "| Brier | 0.003 | 12% | K = 2 |"


def test_arms_have_names_of_their_own_and_the_baseline_is_the_dearest() -> None:
    assert len({arm.name for arm in ARMS}) == len(ARMS) and ARMS[0] is BASELINE
