"""Draw tokens with random numbers that depend on the completion and the position only.

The number for token j of a completion is a hash of (completion seed, j), so it depends neither on the other
completions of the batch nor on the time. The logits do, in their last bits: a batch of another shape may add
in another order. A random number within that rounding of a boundary can then give another token.
"""

import torch
from torch import Tensor

GREEDY = 1e-5  # below this temperature logits / temperature can overflow
TOP_TOKENS = 1024  # the nucleus is searched among so many tokens first

_GAMMA = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit number, and so on
_MIX_1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MIX_2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB


def uniforms(seed_B: Tensor, position_B: Tensor) -> Tensor:
    """Return numbers in [0, 1), float64 [B]: output `position` of SplitMix64 seeded with `seed` (both int64).

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. The top 52 of
    the 64 bits are used, so that u * total < total holds in float64 for every positive total.
    """
    mixed = seed_B + (position_B + 1) * _GAMMA  # int64 arithmetic wraps
    mixed = (mixed ^ _shift_right(mixed, 30)) * _MIX_1
    mixed = (mixed ^ _shift_right(mixed, 27)) * _MIX_2
    mixed = mixed ^ _shift_right(mixed, 31)
    return _shift_right(mixed, 12).double() * 2.0**-52


def _shift_right(number: Tensor, bits: int) -> Tensor:
    """Shift right as if unsigned, filling with zeros; >> would copy the sign."""
    return (number >> bits) & ((1 << (64 - bits)) - 1)


def draw(logits_BV: Tensor, temperature: float, top_p: float, seed_B: Tensor, position_B: Tensor) -> Tensor:
    """Return one token per row, [B]: the first whose cumulative probability exceeds the row's uniform number.

    Probabilities are softmax(logits / temperature) in float32, restricted to the smallest set of most
    probable tokens whose mass reaches `top_p`, ties with the least of them included. A temperature below
    1e-5, as in vLLM, is the argmax.
    """
    if temperature < GREEDY:
        return logits_BV.argmax(-1)
    probability_BV = torch.softmax(logits_BV.float() / temperature, -1)
    if top_p < 1:
        least_B1 = _least_of_nucleus(probability_BV, top_p)
        probability_BV = probability_BV.masked_fill(probability_BV < least_B1, 0.0)
    cumulative_BV = probability_BV.cumsum(-1, dtype=torch.float64)
    target_B1 = (uniforms(seed_B, position_B) * cumulative_BV[:, -1])[:, None]
    return torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0]


def _least_of_nucleus(probability_BV: Tensor, top_p: float) -> Tensor:
    """Return the smallest probability in the nucleus of each row, [B, 1].

    The nucleus usually has few tokens, and sorting a vocabulary of 262,144 takes long.
    """
    size = probability_BV.shape[-1]
    for count in (min(size, TOP_TOKENS), size):
        descending_BK = probability_BV.topk(count).values
        mass_BK = descending_BK.cumsum(-1)
        if count == size or bool((mass_BK[:, -1] >= top_p).all()):
            break
    is_in_BK = mass_BK - descending_BK < top_p
    is_in_BK[:, 0] = True  # the most probable token stays, even with top_p 0
    return descending_BK.gather(-1, is_in_BK.sum(-1, keepdim=True) - 1)
