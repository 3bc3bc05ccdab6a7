"""Advantages of GRPO with process rewards: pure mathematics on padded tensors.

A completion i of a problem has the outcome R_i (1: correct, 0: wrong) and L_i steps with the scores
s_i1 .. s_iL in [0, 1]. A token of step j gets, in the group of the N completions of its problem:

    outcome     (R_i - mean R) / std R                       GRPO (arXiv 2402.03300)
    process     sum of (s_il - mean s) / std s over l >= j   the same, section 4.1.3
    increments  sum of V_l - V_l-1 over l >= j, that is V_L - V_j-1, divided by std V_L, where
                V_0 = mean V_L, V_l = s_il and V_L = R_i     Ng et al., ICML 1999
    min-form    sum of w_l p_l over l >= j, p = 2 s - 1,
                w = softmax(-p / 0.1)                        PURE (arXiv 2504.15275)

`increments` is potential-based shaping with the score as the potential: it changes which step gets the
credit, but not which policy is best, whatever the scores are. The others reward what the PRM likes, so the
outcome's advantage is added to them.

B completions, N of each problem, next to each other; L steps, T tokens (both padded)
"""

import torch
from torch import Tensor

STD_EPSILON = 1e-4  # TRL's
SOFTMIN_TEMPERATURE = 0.1  # PURE's


def to_go(reward_BL: Tensor, is_step_BL: Tensor) -> Tensor:
    """Return for each step the sum of the rewards of this step and of those after it [B, L]; 0 at padding.

    >>> to_go(torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 9.0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    tensor([[7., 6., 4.],
            [3., 2., 0.]])
    """
    kept_BL = reward_BL.masked_fill(is_step_BL == 0, 0.0)
    return kept_BL.flip(1).cumsum(1).flip(1).masked_fill(is_step_BL == 0, 0.0)


def outcome_advantages(outcome_B: Tensor, n: int, scaled: bool = True) -> Tensor:
    """Return the outcomes [B], each minus the mean of its group and (if `scaled`) over its deviation.

    >>> outcome_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]), 2, scaled=False)
    tensor([ 0.5000, -0.5000,  0.0000,  0.0000])
    """
    group_GN = outcome_B.view(-1, n)
    centred_GN = group_GN - group_GN.mean(1, keepdim=True)
    if scaled:
        centred_GN = centred_GN / (group_GN.std(1, keepdim=True) + STD_EPSILON)
    return centred_GN.flatten()


def process_returns(score_BL: Tensor, is_step_BL: Tensor, n: int) -> Tensor:
    """Return the sums to go [B, L] of the scores, normalised over all steps of the group (DeepSeekMath)."""
    scores, is_step = (values.reshape(-1, n * values.shape[1]) for values in (score_BL, is_step_BL))
    scores = scores.masked_fill(is_step == 0, 0.0)
    count = is_step.sum(1, keepdim=True)
    mean = scores.sum(1, keepdim=True) / count
    variance = ((scores - mean) ** 2 * is_step).sum(1, keepdim=True) / (count - 1).clamp(min=1)
    normal_BL = ((scores - mean) / (variance.sqrt() + STD_EPSILON)).view_as(score_BL)
    return to_go(normal_BL, is_step_BL)


def increment_returns(
    score_BL: Tensor,
    is_step_BL: Tensor,
    outcome_B: Tensor,
    n: int,
    *,
    outcome_weight: float = 1.0,
    scaled: bool = True,
) -> Tensor:
    """Return V_L - V_j-1 [B, L]: what was gained from the beginning of each step on.

    V_0 is the mean of V_L in the group. V_L is the outcome; with an `outcome_weight` w below 1 it is
    w R + (1 - w) s_L, and then the optimum depends on the PRM. `scaled` divides by the deviation of V_L in
    the group; a group without any is not scaled, since its steps still differ.
    """
    number = is_step_BL.long().sum(1, keepdim=True)  # [B, 1]
    last_B = score_BL.gather(1, number - 1).squeeze(1)
    final_B = outcome_weight * outcome_B + (1 - outcome_weight) * last_B
    group_GN = final_B.view(-1, n)
    start_B = group_GN.mean(1).repeat_interleave(n)
    before_BL = torch.cat([start_B[:, None], score_BL[:, :-1]], 1)
    value_BL = score_BL.scatter(1, number - 1, final_B[:, None])
    gained_BL = to_go(value_BL - before_BL, is_step_BL)
    if scaled:
        deviation_B = group_GN.std(1).repeat_interleave(n)
        gained_BL = gained_BL / torch.where(deviation_B > 0, deviation_B + STD_EPSILON, 1.0)[:, None]
    return gained_BL


def min_form_returns(score_BL: Tensor, is_step_BL: Tensor) -> Tensor:
    """Return the sums to go [B, L] of the weighted scores, nearly all of whose weight has the worst step.

    After the worst step the return is about 0, before it is about the worst score, between -1 and 1.
    """
    signed_BL = 2 * score_BL - 1
    weight_BL = (-signed_BL / SOFTMIN_TEMPERATURE).masked_fill(is_step_BL == 0, -torch.inf).softmax(1)
    return to_go(weight_BL * signed_BL, is_step_BL)


def min_form_advantages(return_BL: Tensor, step_BT: Tensor, n: int, max_tokens: int) -> Tensor:
    """Return the advantages [B, T]: the return of a token's step minus PURE's baseline of each token.

    The baseline is the mean total of the other completions, spread evenly over `max_tokens` tokens: at token
    t it is what is left of it. A baseline for each step would favour solutions of one step.
    """
    total_GN = return_BL[:, 0].view(-1, n)
    others_B = ((total_GN.sum(1, keepdim=True) - total_GN) / max(1, n - 1)).flatten()
    left_T = 1 - torch.arange(step_BT.shape[1], device=step_BT.device) / max_tokens
    return at_tokens(return_BL, step_BT) - others_B[:, None] * left_T


def at_tokens(value_BL: Tensor, step_BT: Tensor) -> Tensor:
    """Return for each token the value of its step [B, T]; `step_BT` counts steps from 0."""
    return value_BL.gather(1, step_BT)


def token_advantages(
    advantage: str,
    score_BL: Tensor,
    is_step_BL: Tensor,
    outcome_B: Tensor,
    step_BT: Tensor,
    n: int,
    *,
    outcome_weight: float,
    scaled: bool,
    max_tokens: int,
) -> Tensor:
    """Return the advantage of every token [B, T]; `advantage` is a name in the table above."""
    outcome_B1 = outcome_advantages(outcome_B, n, scaled)[:, None]
    if advantage == "outcome":
        return outcome_B1.expand(step_BT.shape)
    if advantage == "increments":
        returns_BL = increment_returns(
            score_BL, is_step_BL, outcome_B, n, outcome_weight=outcome_weight, scaled=scaled
        )
        return at_tokens(returns_BL, step_BT)
    if advantage == "process":
        process_BT = at_tokens(process_returns(score_BL, is_step_BL, n), step_BT)
    else:
        process_BT = min_form_advantages(min_form_returns(score_BL, is_step_BL), step_BT, n, max_tokens)
    return process_BT + outcome_weight * outcome_B1
