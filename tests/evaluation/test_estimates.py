"""Figures against enumeration, closed forms, and simulations with a known truth."""

import math
from collections.abc import Callable, Sequence
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erprm_cli.evaluation.aggregation import AGGREGATORS, aggregate
from erprm_cli.evaluation.estimates import best_of_n, draw_weights, pass_at_n, votes_at_n
from erprm_cli.evaluation.intervals import mean_over_problems, paired_difference

# Few distinct scores, so that ties are common.
candidate_lists = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=1, max_size=7
)


def over_all_subsets(size: int, n: int, value: Callable[[Sequence[int]], float]) -> float:
    """The mean of `value` over every subset of n indices."""
    return float(np.mean([value(subset) for subset in combinations(range(size), n)]))


def first_of_the_best_in_every_order(
    scores: Sequence[float], correct: Sequence[bool]
) -> Callable[..., float]:
    """The mean outcome of "the first wins" over all orders of a subset."""

    def value(subset: Sequence[int]) -> float:
        chosen = [max(order, key=lambda index: scores[index]) for order in permutations(subset)]
        return float(np.mean([correct[index] for index in chosen]))

    return value


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


# ---- Aggregators


@pytest.mark.parametrize(
    ("name", "expected"), [("min", 0.25), ("last", 0.5), ("prod", 0.125), ("mean", 1.75 / 3), ("max", 1.0)]
)
def test_each_aggregator_by_hand(name: str, expected: float) -> None:
    assert aggregate([0.25, 1.0, 0.5], name) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_aggregates_lie_in_their_order_and_agree_on_one_step(scores: list[float]) -> None:
    value = {name: aggregate(scores, name) for name in AGGREGATORS}
    assert 0 <= value["prod"] <= value["min"] <= value["last"] <= value["max"] <= 1
    assert value["min"] - 1e-12 <= value["mean"] <= value["max"] + 1e-12
    assert {aggregate(scores[:1], name) for name in AGGREGATORS} == {scores[0]}


# ---- Best of n and pass@n


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
def test_pass_at_n_equals_enumeration_and_the_closed_form(candidates: list[tuple[float, bool]]) -> None:
    correct = [right for _, right in candidates]
    size, c = len(correct), sum(correct)
    budgets = range(1, size + 1)
    found = pass_at_n(correct, budgets)
    closed = [1 - math.comb(size - c, n) / math.comb(size, n) for n in budgets]
    assert found == pytest.approx(closed)
    counted = [over_all_subsets(size, n, lambda subset: any(correct[i] for i in subset)) for n in budgets]
    assert found == pytest.approx(counted)


def test_the_formulas_are_stable_for_thousands_of_candidates() -> None:
    correct = np.arange(4096) < 3
    exact = [1 - math.comb(4093, n) / math.comb(4096, n) for n in (1, 64, 2048, 4096)]
    assert pass_at_n(correct, [1, 64, 2048, 4096]) == pytest.approx(exact, rel=1e-9)
    for n in (1, 64, 2048, 4096):
        assert draw_weights(4096, n).sum() == pytest.approx(1, rel=1e-12)


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
def test_more_than_there_are_or_none_cannot_be_drawn(n: int) -> None:
    with pytest.raises(ValueError, match="outside 1 .. 3"):
        best_of_n([0.1, 0.2, 0.3], [0, 1, 1], [n])


# ---- Votes


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


def test_several_kinds_of_weight_are_judged_on_the_same_subsets() -> None:
    rng = np.random.default_rng(4)
    weights, classes = rng.random(40), rng.integers(0, 5, 40)
    found = votes_at_n(np.stack([weights, weights]), classes == 2, classes, [8, 16], rng)
    assert found[0].tolist() == found[1].tolist()


# ---- Intervals and differences


def test_the_interval_of_zeros_and_ones_is_wilsons() -> None:
    # the p at which 42 of 50 lies 1.96 standard errors of p away: (p - 0.84)^2 = z^2 p (1 - p) / 50
    z2 = 1.959963984540054**2 / 50
    low, high = sorted(np.roots([1 + z2, -(2 * 0.84 + z2), 0.84**2]))
    estimate = mean_over_problems([1] * 42 + [0] * 8)
    assert (estimate.value, estimate.problems) == (0.84, 50)
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    none_right = mean_over_problems(np.zeros(50))
    assert (none_right.low, round(none_right.high, 4)) == (0.0, 0.0713)


def test_estimates_that_vary_less_between_problems_have_a_smaller_interval() -> None:
    sure, unsure = mean_over_problems([0, 1] * 50), mean_over_problems([0.4, 0.6] * 50)
    assert unsure.high - unsure.low < 0.25 * (sure.high - sure.low)
    assert mean_over_problems([0.3]).high - mean_over_problems([0.3]).low > 0.7  # one problem says little


@pytest.mark.parametrize(("n", "problems"), [(1, 40), (4, 40), (16, 40), (16, 300)])
def test_intervals_hold_the_truth_in_95_of_100_experiments(n: int, problems: int) -> None:
    rng = np.random.default_rng(5)
    # each problem has its own chance of a correct candidate; correct ones score higher by one deviation
    ease = rng.beta(0.5, 1.0, (1000, problems))
    correct = rng.random((1000, problems, 16)) < ease[..., None]
    values = best_of_n(rng.normal(correct, 1), correct, [n])[..., 0]
    truth = values.mean()  # of 40,000 or more problems: its own error is a twentieth of an interval
    estimates = [mean_over_problems(row) for row in values]
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
    assert 0.93 <= covered <= 0.975


def test_a_model_differs_from_itself_by_0_with_p_1() -> None:
    values = np.random.default_rng(6).random(200)
    estimate = paired_difference(values, values)
    assert (estimate.value, estimate.low, estimate.high, estimate.p) == (0, 0, 0, 1)


def test_the_sign_flip_test_of_few_zeros_and_ones_is_mcnemars_exact_test() -> None:
    # 9 problems only ours solves, 2 only theirs: 2 * (C(11,0) + C(11,1) + C(11,2)) / 2^11
    ours, theirs = [1] * 9 + [0] * 2 + [1] * 30, [0] * 9 + [1] * 2 + [1] * 30
    assert paired_difference(ours, theirs).p == pytest.approx(2 * (1 + 11 + 55) / 2**11)


def test_random_sign_flips_agree_with_the_exact_test() -> None:
    # 24 against 12 discordant problems: McNemar's exact p
    exact = 2 * sum(math.comb(36, k) for k in range(13)) / 2**36
    ours, theirs = [1] * 24 + [0] * 12, [0] * 24 + [1] * 12
    assert paired_difference(ours, theirs, seed=1).p == pytest.approx(exact, abs=0.01)


def test_the_paired_interval_is_students() -> None:
    # differences 0.1, 0.2, 0.3, 0.4: mean 0.25, standard error 0.06455, t(3) = 3.182
    estimate = paired_difference([0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0])
    assert estimate.value == pytest.approx(0.25)
    assert estimate.high - estimate.value == pytest.approx(3.182 * 0.064550, rel=0.01)


# As scipy.special.stdtrit(freedom, 0.975) gives them, with how far the series may be off.
T_QUANTILES = {
    1: (12.706204736, 1e-9),
    2: (4.3026527297, 1e-9),
    3: (3.1824463053, 0.0074),
    4: (2.7764451052, 0.0026),
    5: (2.5705818356, 0.0012),
    9: (2.2621571628, 1.2e-4),
    19: (2.0930240544, 6e-6),
    30: (2.0422724563, 1e-6),
    99: (1.9842169516, 1e-8),
    499: (1.9647293910, 1e-9),
}


@pytest.mark.parametrize("freedom", T_QUANTILES)
def test_the_paired_interval_has_the_quantile_of_students_t(freedom: int) -> None:
    difference = np.resize([1e-3, -1e-3, 3e-3], freedom + 1)
    estimate = paired_difference(difference, np.zeros(freedom + 1))
    error = difference.std(ddof=1) / math.sqrt(freedom + 1)
    quantile, tolerance = T_QUANTILES[freedom]
    assert (estimate.high - estimate.value) / error == pytest.approx(quantile, rel=tolerance)


def test_exchanging_the_two_turns_the_sign_and_nothing_else() -> None:
    ours, theirs = np.random.default_rng(7).random((2, 60))
    there, back = paired_difference(ours, theirs), paired_difference(theirs, ours)
    assert back.value == pytest.approx(-there.value)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.p == there.p


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    rng = np.random.default_rng(8)
    p_values = np.array([paired_difference(*rng.random((2, 40))).p for _ in range(200)])
    assert 0.01 <= (p_values < 0.05).mean() <= 0.10
    assert 0.4 <= (p_values < 0.5).mean() <= 0.6
