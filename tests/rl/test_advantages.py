"""Advantages on numbers that were computed by hand, and the gradient of a policy that can be enumerated."""

from itertools import product
from math import exp, sqrt

import pytest
import torch
from torch import Tensor

from erprm_cli.rl.advantages import (
    increment_returns,
    min_form_advantages,
    min_form_returns,
    outcome_advantages,
    process_returns,
    token_advantages,
)

# One problem, two completions: three steps and correct, two steps and wrong
SCORES = torch.tensor([[0.75, 0.5, 1.0], [0.5, 0.25, 0.0]])
IS_STEP = torch.tensor([[1, 1, 1], [1, 1, 0]])
OUTCOMES = torch.tensor([1.0, 0.0])


def test_the_outcome_is_normalised_in_its_group() -> None:
    found = outcome_advantages(torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 1]), 4)
    # mean 1/4, deviation sqrt((9 + 3) / 16 / 3) = 1/2
    assert torch.allclose(found[:4], torch.tensor([1.5, -0.5, -0.5, -0.5]), atol=1e-3)
    assert found[4:].tolist() == [0.0] * 4


def test_process_is_the_formula_of_deepseekmath() -> None:
    """Section 4.1.3: normalise with the mean and deviation of all step rewards of the group, then sum."""
    mean, deviation = 0.6, sqrt((0.15**2 + 0.1**2 + 0.4**2 + 0.1**2 + 0.35**2) / 4)
    first = [(score - mean) / deviation for score in (0.75, 0.5, 1.0)]
    second = [(score - mean) / deviation for score in (0.5, 0.25)]
    expected = torch.tensor([[sum(first), sum(first[1:]), first[2]], [sum(second), second[1], 0.0]])
    assert torch.allclose(process_returns(SCORES, IS_STEP, 2), expected, atol=2e-3)


def test_increments_are_what_is_gained_from_a_step_on() -> None:
    found = increment_returns(SCORES, IS_STEP, OUTCOMES, 2, scaled=False)
    # V_0 = 1/2, the mean outcome; V_L is the outcome, so the PRM's own last score does not count
    assert found.tolist() == [[0.5, 0.25, 0.5], [-0.5, -0.5, 0.0]]
    scaled = increment_returns(SCORES, IS_STEP, OUTCOMES, 2)
    assert torch.allclose(scaled, found / sqrt(0.5), atol=1e-3)


def test_increments_of_a_group_without_deviation_are_not_scaled() -> None:
    found = increment_returns(SCORES, IS_STEP, torch.zeros(2), 2)
    assert found.tolist() == [[0.0, -0.75, -0.5], [0.0, -0.5, 0.0]]


def test_increments_without_the_outcome_end_at_the_last_score() -> None:
    found = increment_returns(SCORES, IS_STEP, OUTCOMES, 2, outcome_weight=0.0, scaled=False)
    assert found.tolist() == [[0.375, 0.25, 0.5], [-0.375, -0.25, 0.0]]


def test_min_form_is_the_formula_of_pure() -> None:
    signed = [0.5, 0.0, 1.0]
    weights = [exp(-value / 0.1) for value in signed]
    parts = [weight * value / sum(weights) for weight, value in zip(weights, signed, strict=True)]
    found = min_form_returns(SCORES, IS_STEP)
    assert torch.allclose(found[0], torch.tensor([sum(parts), sum(parts[1:]), parts[2]]), atol=1e-6)
    weight = 1 / (1 + exp(-5))  # of the worse of 0 and -1/2
    assert torch.allclose(found[1], torch.tensor([-weight / 2, -weight / 2, 0.0]), atol=1e-6)


def test_the_worst_step_and_those_before_it_carry_the_blame() -> None:
    found = min_form_returns(torch.tensor([[0.9, 0.1, 0.9]]), torch.ones(1, 3))
    assert torch.allclose(found, torch.tensor([[-0.8, -0.8, 0.0]]), atol=1e-3)


def test_the_baseline_of_min_form_is_spread_over_all_tokens() -> None:
    returns = torch.tensor([[0.6, 0.2], [-0.4, 0.0], [0.0, 0.0]])
    steps = torch.tensor([[0, 0, 1], [0, 1, 1], [0, 0, 0]])
    found = min_form_advantages(returns, steps, 3, max_tokens=4)
    # of the others: (-0.4 + 0) / 2 = -0.2, then 0.3 and 0.1; 4/4, 3/4, 2/4 of them are left
    expected = [[0.6 + 0.2, 0.6 + 0.15, 0.2 + 0.1], [-0.7, -0.225, -0.15], [-0.1, -0.075, -0.05]]
    assert torch.allclose(found, torch.tensor(expected))


@pytest.mark.parametrize("advantage", ["outcome", "process", "increments", "min-form"])
def test_a_token_gets_the_advantage_of_its_step(advantage: str) -> None:
    steps = torch.tensor([[0, 0, 1, 2, 2], [0, 1, 1, 1, 1]])
    found = token_advantages(
        advantage, SCORES, IS_STEP, OUTCOMES, steps, 2, outcome_weight=0.5, scaled=False, max_tokens=10**9
    )
    outcome = torch.tensor([[0.5], [-0.5]])
    by_step = {
        "outcome": outcome.expand(2, 3),
        "process": process_returns(SCORES, IS_STEP, 2) + 0.5 * outcome,
        "increments": increment_returns(SCORES, IS_STEP, OUTCOMES, 2, outcome_weight=0.5, scaled=False),
        "min-form": min_form_returns(SCORES, IS_STEP)
        - min_form_returns(SCORES, IS_STEP)[[1, 0], :1]
        + 0.5 * outcome,
    }[advantage]
    assert torch.allclose(found, by_step.gather(1, steps))


def test_padding_has_no_influence() -> None:
    wide = torch.nn.functional.pad(SCORES, (0, 2), value=0.9)
    is_step = torch.nn.functional.pad(IS_STEP, (0, 2))
    for function in (
        lambda scores, mask: process_returns(scores, mask, 2),
        lambda scores, mask: increment_returns(scores, mask, OUTCOMES, 2),
        min_form_returns,
    ):
        assert torch.allclose(function(wide, is_step)[:, :3], function(SCORES, IS_STEP))
        assert not function(wide, is_step)[:, 3:].any()


# A tabular policy of STEPS steps with two actions each. The chance of the right action (1) of a step depends
# on the action before it: sigmoid(THETA[step, action before]). A path of right actions only is correct.
STEPS = 5
PATHS = torch.tensor(list(product((0, 1), repeat=STEPS)))
BEFORE = torch.nn.functional.pad(PATHS[:, :-1], (1, 0))
CORRECT = PATHS.all(1).float()
THETA = torch.tensor([[1.0, 0.0], [0.2, 1.5], [0.0, 0.8], [-0.5, 1.0], [0.3, 1.2]])
N = 8


def chances(theta: Tensor) -> Tensor:
    """Return the chance of each action [paths, STEPS], given the actions before it."""
    right = theta.sigmoid()[torch.arange(STEPS), BEFORE]
    return torch.where(PATHS == 1, right, 1 - right)


def values(theta: Tensor) -> Tensor:
    """Return the expected outcome after each step [paths, STEPS], by enumeration."""
    found = torch.empty(len(PATHS), STEPS)
    for path, step in product(range(len(PATHS)), range(STEPS)):
        same = (PATHS[:, : step + 1] == PATHS[path, : step + 1]).all(1)
        found[path, step] = (chances(theta)[same][:, step + 1 :].prod(1) * CORRECT[same]).sum()
    return found


def exact_gradient(theta: Tensor) -> Tensor:
    """Return the gradient of the expected outcome [STEPS, 2], by enumeration."""
    theta = theta.clone().requires_grad_()
    (chances(theta).prod(1) * CORRECT).sum().backward()
    assert theta.grad is not None
    return theta.grad


def estimates(advantage: str, theta: Tensor, scores: Tensor, groups: int = 20_000) -> Tensor:
    """Return `groups` estimates [groups, STEPS, 2] of the policy gradient, each from N sampled paths."""
    torch.manual_seed(0)
    path_B = torch.multinomial(chances(theta).prod(1), groups * N, replacement=True)
    right = theta.sigmoid()[torch.arange(STEPS), BEFORE]
    gradient = torch.zeros(len(PATHS), STEPS, STEPS, 2)  # of each step's log chance, by the parameters
    for step in range(STEPS):
        rows = torch.arange(len(PATHS))
        gradient[rows, step, step, BEFORE[:, step]] = PATHS[:, step] - right[:, step]
    mask, steps = torch.ones(groups * N, STEPS), torch.arange(STEPS).expand(groups * N, STEPS)
    advantage_BT = token_advantages(
        advantage,
        scores[path_B],
        mask,
        CORRECT[path_B],
        steps,
        N,
        outcome_weight=1.0,
        scaled=False,
        max_tokens=STEPS,
    )
    return (gradient[path_B] * advantage_BT[:, :, None, None]).sum(1).view(groups, N, STEPS, 2).mean(1)


def unbiased(advantage: str, theta: Tensor, scores: Tensor) -> Tensor:
    """Return estimates as `estimates` does, without the factor 1 - 1/N.

    It comes from a baseline that holds the sample itself, the mean of its group. `outcome` has that baseline
    at all steps, `increments` at the first; the later baselines are values.
    """
    shrunk = torch.ones(STEPS, 1)
    shrunk[: STEPS if advantage == "outcome" else 1] = 1 - 1 / N
    return estimates(advantage, theta, scores) / shrunk


def variances() -> tuple[float, float]:
    """Return the variance of the gradient, summed over its components: of `outcome` and of `increments`."""
    scores = values(THETA)
    outcome, increments = (unbiased(name, THETA, scores).var(0).sum() for name in ("outcome", "increments"))
    return float(outcome), float(increments)


def assert_unbiased(found: Tensor, exact: Tensor) -> None:
    error = found.std(0) / sqrt(len(found))
    assert ((found.mean(0) - exact).abs() <= 4 * error + 1e-6).all(), (found.mean(0), exact)


@pytest.mark.parametrize("advantage", ["outcome", "increments"])
def test_the_gradient_with_exact_values_is_that_of_the_expected_outcome(advantage: str) -> None:
    """Potential-based shaping."""
    assert_unbiased(unbiased(advantage, THETA, values(THETA)), exact_gradient(THETA))


def test_wrong_values_do_not_change_the_gradient_of_increments() -> None:
    """Whatever the PRM says of a prefix is added and taken off again; only the variance depends on it."""
    torch.manual_seed(1)
    scores: dict[tuple[int, ...], Tensor] = {}
    wrong = torch.stack(
        [
            torch.stack([scores.setdefault(tuple(path[: step + 1]), torch.rand(())) for step in range(STEPS)])
            for path in PATHS.tolist()
        ]
    )
    assert_unbiased(unbiased("increments", THETA, wrong), exact_gradient(THETA))


def test_increments_with_exact_values_have_less_variance_than_the_outcome() -> None:
    """`python -m tests.rl.test_advantages` prints the variances."""
    outcome, increments = variances()
    assert increments < 0.95 * outcome


if __name__ == "__main__":
    outcome, increments = variances()
    print(
        f"variance of the gradient of a group of {N}: outcome {outcome:.4f}, increments {increments:.4f}, "
        f"ratio {increments / outcome:.2f}"
    )
