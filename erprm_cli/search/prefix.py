"""What a search works on: prefixes of solutions, and requests to extend them.

A search method is a generator for one problem. It yields the extensions that it needs next and receives the
extended prefixes with the scores of their steps, in the same order; it returns what it found. So a method
knows neither the policy nor the PRM, and the rounds of many problems can share their batches.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

# A step of the policy; the rest of the solution; a step that takes the most probable token each time.
Reach = Literal["step", "end", "greedy step"]


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first steps of a solution, or all of it.

    `token_ids` are those that the policy wrote, without the prompt, so that it continues exactly what it
    wrote. They are empty if the engine does not tell them; `num_tokens` is their number all the same.
    `scores` are the PRM's, one per step. `finish_reason` is None while the prefix can be extended. `outcome`
    is the verifier's reward of a finished solution, or None without a verifier.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    num_tokens: int = 0
    steps: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    finish_reason: str | None = None
    outcome: float | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the solution is complete, or cut off at the limit of tokens."""
        return self.finish_reason is not None


class Extension(NamedTuple):
    """A request to extend an unfinished prefix.

    `slot` counts the requests of one round. Round and slot give the seed, so that extensions of one prefix
    differ, and equal runs agree.
    """

    prefix: Prefix
    slot: int
    reach: Reach = "step"


@dataclass(frozen=True, slots=True)
class Found:
    """The solutions that a search returns, and what only SMC knows: None for the other methods.

    `log_weights` are logarithms of shares: their exponentials sum to 1. `ess` is the effective sample size
    of the final weights, from 1 to N. `log_z` estimates ln Z, with Z = E[e^(eta r)] over the policy.
    """

    solutions: list[Prefix]
    log_weights: list[float] | None = None
    ess: float | None = None
    resamplings: int | None = None
    log_z: float | None = None


Value = Callable[[Prefix], float]  # how good a prefix is, to the method
Search = Generator[list[Extension], list[Prefix], Found]
Random = np.random.Generator
