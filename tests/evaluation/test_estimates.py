"""pass@n and votes against enumeration and closed forms."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erprm_cli.evaluation.estimates import pass_at_n, votes_at_n
from tests.evaluation.enumeration import candidate_lists, over_all_subsets


def vote(weights: Sequence[float], correct: Sequence[bool], classes: Sequence[int]) -> Callable[..., float]:
    def value(subset: Sequence[int]) -> float:
        sums: dict[int, float] = {}
        for index in subset:
            if classes[index] >= 0:
                sums[classes[index]] = sums.get(classes[index], 0.0) + weights[index]
        top = [name for name in sums if sums[name] == max(sums.values())]
        return float(np.mean([correct[classes.index(name)] for name in top])) if top else 0.0

    return value


def votes(weights: Any, correct: Any, classes: Any, budgets: Sequence[int], **more: Any) -> list[float]:
    found = votes_at_n(weights, correct, classes, budgets, np.random.default_rng(0), **more)
    return [float(value) for value in found[0]]


@given(candidate_lists)
def test_pass_at_n_equals_enumeration_and_the_closed_form(candidates: list[tuple[float, bool]]) -> None:
    correct = [right for _, right in candidates]
    size, c = len(correct), sum(correct)
    budgets = range(1, size + 1)
    found = pass_at_n(correct, budgets)
    closed = [1 - math.comb(size - c, n) / math.comb(size, n) for n in budgets]
    assert found == pytest.approx(closed)
    counted = [over_all_subsets(size, n, lambda subset: any(correct[i] for i in subset)) for n in budgets]
    assert found == pytest.approx(counted)


def test_pass_at_n_is_stable_for_thousands_of_candidates() -> None:
    correct = np.arange(4096) < 3
    exact = [1 - math.comb(4093, n) / math.comb(4096, n) for n in (1, 64, 2048, 4096)]
    assert pass_at_n(correct, [1, 64, 2048, 4096]) == pytest.approx(exact, rel=1e-9)


vote_lists = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(-1, 3)), min_size=1, max_size=7
)


@settings(max_examples=60, deadline=None)
@given(vote_lists, st.integers(0, 3))
def test_votes_equal_enumeration_where_all_subsets_are_few(
    voters: list[tuple[float, int]], gold: int
) -> None:
    weights, classes = zip(*voters, strict=True)
    correct = [name == gold for name in classes]
    size = len(voters)
    value = vote(weights, correct, classes)
    expected = [over_all_subsets(size, n, value) for n in range(1, size + 1)]
    assert votes(weights, correct, classes, range(1, size + 1)) == pytest.approx(expected)


def test_random_subsets_come_close_to_all_subsets() -> None:
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 4, 12).tolist()
    weights, correct = rng.random(12).tolist(), [name == 1 for name in classes]
    exact = votes(weights, correct, classes, [4, 6], resamples=1000)  # C(12, 6) = 924
    assert votes(weights, correct, classes, [4, 6], resamples=400) == pytest.approx(exact, abs=0.1)


def test_votes_of_all_candidates_are_exact_and_of_one_are_pass_at_1() -> None:
    classes = [0] * 30 + [1] * 34
    correct = [name == 0 for name in classes]
    assert votes(np.ones(64), correct, classes, [1, 64]) == pytest.approx([30 / 64, 0.0])
    heavy = [0.9] * 30 + [0.5] * 34
    assert votes(heavy, correct, classes, [64]) == [1.0]


def test_tied_votes_count_half_even_if_sums_are_rounded_differently() -> None:
    weights = [0.1, 0.2, 0.3, 0.3, 0.2, 0.1]
    assert votes(weights, [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [6]) == [0.5]


def test_a_null_prediction_votes_for_nobody_and_nobody_is_wrong() -> None:
    assert votes([1, 1, 1], [1, 0, 0], [0, -1, -1], [3]) == [1.0]
    assert votes([1, 1], [0, 0], [-1, -1], [1, 2]) == [0.0, 0.0]


def test_weights_of_zero_leave_a_tie_among_the_answers_that_are_there() -> None:
    assert votes([0, 0], [1, 0], [0, 1], [1, 2]) == pytest.approx([0.5, 0.5])


def test_several_kinds_of_weight_are_evaluated_on_the_same_subsets() -> None:
    rng = np.random.default_rng(4)
    weights, classes = rng.random(40), rng.integers(0, 5, 40)
    found = votes_at_n(np.stack([weights, weights]), classes == 2, classes, [8, 16], rng)
    assert found[0].tolist() == found[1].tolist()
