"""Best-of-n against enumeration of subsets and orders, and the results for several PRMs."""

from collections.abc import Callable, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erprm_cli.evaluation.best_of_n import best_of_n, rank_weights, tie_note
from erprm_cli.evaluation.candidates import GradedProblem
from erprm_cli.evaluation.estimates import pass_at_n
from tests.evaluation.enumeration import candidate_lists, over_all_subsets


def first_of_the_best_in_every_order(
    scores: Sequence[float], correct: Sequence[bool]
) -> Callable[..., float]:
    """The mean outcome of "the first wins" over all orders of a subset."""

    def value(subset: Sequence[int]) -> float:
        chosen = [max(order, key=lambda index: scores[index]) for order in permutations(subset)]
        return float(np.mean([correct[index] for index in chosen]))

    return value


@settings(max_examples=60, deadline=None)
@given(candidate_lists)
def test_best_of_n_equals_enumeration_of_all_subsets_in_all_orders(
    candidates: list[tuple[float, bool]],
) -> None:
    scores, correct = zip(*candidates[:5], strict=True)
    size = len(scores)
    found = best_of_n(scores, correct, range(1, size + 1))
    value = first_of_the_best_in_every_order(scores, correct)
    assert found == pytest.approx([over_all_subsets(size, n, value) for n in range(1, size + 1)])


@given(candidate_lists)
def test_a_constant_score_gives_pass_at_1_for_every_n(candidates: list[tuple[float, bool]]) -> None:
    correct = [right for _, right in candidates]
    found = best_of_n(np.full(len(correct), 0.5), correct, range(1, len(correct) + 1))
    assert found == pytest.approx(np.full(len(correct), np.mean(correct)))


@given(candidate_lists)
def test_an_oracle_score_gives_pass_at_n_and_its_opposite_the_least(
    candidates: list[tuple[float, bool]],
) -> None:
    correct = np.array([right for _, right in candidates])
    budgets = range(1, len(correct) + 1)
    assert best_of_n(correct, correct, budgets) == pytest.approx(pass_at_n(correct, budgets))
    assert best_of_n(~correct, correct, budgets) == pytest.approx(1 - pass_at_n(~correct, budgets))


@given(candidate_lists)
def test_pass_at_n_never_falls_and_bounds_every_choice(candidates: list[tuple[float, bool]]) -> None:
    scores, correct = zip(*candidates, strict=True)
    budgets = range(1, len(scores) + 1)
    passed, best = pass_at_n(correct, budgets), best_of_n(scores, correct, budgets)
    assert (np.diff(passed) >= -1e-12).all()
    assert (best <= passed + 1e-12).all() and (best >= -1e-12).all()
    assert best[0] == pytest.approx(np.mean(correct))


@given(candidate_lists, st.randoms())
def test_estimates_do_not_depend_on_the_order_of_candidates(
    candidates: list[tuple[float, bool]], random: Any
) -> None:
    shuffled = random.sample(candidates, len(candidates))
    budgets = range(1, len(candidates) + 1)
    before, after = (np.array(some, dtype=float).T for some in (candidates, shuffled))
    assert best_of_n(before[0], before[1], budgets) == pytest.approx(best_of_n(after[0], after[1], budgets))


def test_a_better_score_for_a_correct_candidate_never_hurts() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        scores, correct = rng.integers(0, 4, 8) / 4, rng.random(8) < 0.5
        if not correct.any():
            continue
        raised = scores.copy()
        raised[np.flatnonzero(correct)[0]] += 0.25
        budgets = range(1, 9)
        assert (best_of_n(raised, correct, budgets) >= best_of_n(scores, correct, budgets) - 1e-12).all()


def test_many_problems_and_models_at_once_equal_one_at_a_time() -> None:
    rng = np.random.default_rng(2)
    scores, correct = rng.integers(0, 5, (3, 2, 4, 9)) / 4, rng.random((4, 9)) < 0.4
    together = best_of_n(scores, correct, [1, 3, 9])
    assert together.shape == (3, 2, 4, 3)
    for a, b, p in product(range(3), range(2), range(4)):
        assert together[a, b, p] == pytest.approx(best_of_n(scores[a, b, p], correct[p], [1, 3, 9]))
    assert pass_at_n(correct, [1, 3, 9]).shape == (4, 3)


@pytest.mark.parametrize("n", [0, 4])
def test_n_must_be_between_1_and_the_number_of_candidates(n: int) -> None:
    with pytest.raises(ValueError, match="outside 1 .. 3"):
        best_of_n([0.1, 0.2, 0.3], [0, 1, 1], [n])


@pytest.mark.parametrize("n", [1, 64, 2048, 4096])
def test_rank_weights_are_stable_for_thousands_of_candidates(n: int) -> None:
    assert rank_weights(4096, n).sum() == pytest.approx(1, rel=1e-12)


def test_tied_candidates_count_with_the_mean_of_their_tie() -> None:
    assert best_of_n([0.9, 0.9, 0.1], [1, 0, 0], [3]).tolist() == [0.5]
    assert best_of_n([0.9, 0.9, 0.9], [1, 0, 0], [1, 2, 3]) == pytest.approx([1 / 3] * 3)


def judged(scores: list[float] | None, correct: list[bool], classes: list[int]) -> GradedProblem:
    score_KAN = np.array([[scores]] if scores else [], dtype=float).reshape(
        1 if scores else 0, 1, len(correct)
    )
    return GradedProblem("a", score_KAN, np.array(correct), np.array(classes))


@pytest.mark.parametrize(
    ("scores", "correct", "classes", "rows_correct"),
    [
        ([0.9, 0.1, 0.9], [False, True, True], [0, 1, 1], "0.0%"),  # the first of two is wrong
        ([0.9, 0.1, 0.9], [True, True, False], [0, 0, 1], "100.0%"),
        ([0.9, 0.1, 0.9], [True, False, True], [0, 1, 0], None),  # tied, but both are right
        ([0.9, 0.1, 0.5], [True, False, False], [0, 1, 1], None),
        (None, [False, True, True, False], [0, 1, 1, 0], "0.0%"),  # two votes each
        (None, [True, False, False, True], [0, 1, 1, 0], "100.0%"),
        (None, [True, False, False], [0, 1, 1], None),
        (None, [False, False], [-1, -1], None),  # no answer at all
    ],
)
def test_ties_between_right_and_wrong_candidates_are_reported(
    scores: list[float] | None, correct: list[bool], classes: list[int], rows_correct: str | None
) -> None:
    note = tie_note([judged(scores, correct, classes)])
    if rows_correct is None:
        assert note == ""
    else:
        assert note == (
            "ties: in 1 of 1 problems, correct and wrong candidates share the first place; rows have the "
            f"first of them ({rows_correct} correct)"
        )
