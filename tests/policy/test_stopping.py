"""Stopping rules: when a prefix has enough completions, and that more of them never change what it keeps."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stopping_bias import bias, simulated_bias
from erprm_cli.labels.intervals import label_interval
from erprm_cli.policy.step_choice import bisect
from erprm_cli.policy.stopping import StoppingRule

HARD = StoppingRule(1.0, inf)


def kept(rule: StoppingRule, k: int, rewards: list[float]) -> int:
    """Return how many of K rewards a prefix keeps when they are drawn round by round."""
    count = 0
    while (needed := rule.needed(k, rewards[:count])) > count:
        count = needed
    return count


def test_without_a_width_there_is_one_round_of_k() -> None:
    assert StoppingRule().rounds(16) == (16,) and kept(StoppingRule(), 16, [1.0] * 16) == 16


@pytest.mark.parametrize(("width", "first"), [(0.3, 8), (0.45, 4), (0.67, 2), (0.86, 1)])
def test_the_first_round_ends_when_equal_outcomes_are_enough(width: float, first: int) -> None:
    """The numbers are in docs/budgets.md. A shorter round could stop nothing."""
    rule = StoppingRule(width)
    assert rule.rounds(64)[:3] == (first, 2 * first, 4 * first)
    assert rule.is_enough(0, first) and (first == 1 or not rule.is_enough(0, first // 2))


def test_a_label_that_is_known_well_enough_needs_no_more() -> None:
    rule = StoppingRule(0.5)
    assert label_interval(0, 4, 0)[1] < 0.5 < label_interval(2, 4, 0)[1] - label_interval(2, 4, 0)[0]
    assert (kept(rule, 16, [0.0] * 16), kept(rule, 16, [0.0, 1.0] * 8)) == (4, 16)


def test_a_hard_label_needs_one_success() -> None:
    assert [kept(HARD, 16, [0.0] * failures + [1.0] * 16) for failures in (0, 1, 2, 4, 20)] == [
        1,
        2,
        4,
        8,
        16,
    ]


def test_a_solution_that_counts_itself_may_need_no_completion() -> None:
    assert (HARD.needed(16, [], [1.0]), HARD.needed(16, [], [0.0])) == (0, 1)
    assert StoppingRule().needed(16, [], [1.0]) == 16


def test_rewards_other_than_0_and_1_are_all_drawn() -> None:
    assert kept(StoppingRule(0.9), 16, [0.5] * 16) == 16


@given(
    st.lists(st.sampled_from([0.0, 1.0]), min_size=16, max_size=16),
    st.floats(0.05, 1),
    st.floats(0.05, 1),
    st.sampled_from([0.0, 2.0]),
)
def test_a_stricter_rule_keeps_all_that_a_looser_one_does(
    rewards: list[float], one: float, other: float, eta: float
) -> None:
    strict, loose = (StoppingRule(width, eta) for width in sorted((one, other)))
    assert kept(loose, 16, rewards) <= kept(strict, 16, rewards)
    assert strict.needed(16, rewards) == kept(strict, 16, rewards)  # however many were drawn before


@given(st.integers(1, 200), st.data())
def test_bisection_finds_the_first_error_in_about_log2_steps(count: int, data: st.DataObject) -> None:
    first_error = data.draw(st.integers(0, count - 1))  # of `count` steps, the last of which is wrong
    found: list[list[float] | None] = [None] * (count - 1)
    while steps := bisect(found, 0.0):
        (step,) = steps
        found[step] = [0.0, float(step < first_error)]
    visited = [step for step, rewards in enumerate(found) if rewards is not None]
    assert len(visited) <= (count - 1).bit_length()
    bad = [step for step in visited if not any(found[step] or ())]
    assert min(bad, default=count - 1) == first_error


def test_a_correct_solution_has_no_error_to_find() -> None:
    assert bisect([None] * 7, 1.0) == []


# The bias of averages, for docs/budgets.md


@pytest.mark.parametrize(
    ("rule", "rate"), [(StoppingRule(0.45), 0.1), (StoppingRule(0.3, 2.0), 0.7), (HARD, 0.3)]
)
def test_the_exact_bias_is_that_of_a_simulation(rule: StoppingRule, rate: float) -> None:
    mean, error = simulated_bias(rule, 16, rate, 20_000)
    assert bias(rule, 16, rate) == pytest.approx(mean, abs=4 * error)


def test_a_fixed_number_of_completions_has_no_bias() -> None:
    assert bias(StoppingRule(), 16, 0.3) == pytest.approx(0, abs=1e-12)


def test_help_and_docs_state_the_largest_bias_of_averages() -> None:
    """0.07, 0.21 and 0.22, over all widths and rates."""
    rules = [[StoppingRule(width / 20, eta) for width in range(1, 20)] for eta in (0.0, 2.0)] + [[HARD]]
    largest = [
        max(abs(bias(rule, 16, number / 20)) for rule in of_kind for number in range(1, 20))
        for of_kind in rules
    ]
    assert largest == pytest.approx([0.067, 0.211, 0.224], abs=0.001)
