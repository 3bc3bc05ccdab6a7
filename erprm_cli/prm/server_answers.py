"""What servers answer about a process reward model and its scores: `erprm serve`, and vLLM's /pooling.

The two formats are fixed, so they are read strictly: ValueError for an answer of another form, which is asked
for again. A NaN or an infinite number is returned, because asking again would not help.

Shapes: T tokens of an input, C numbers per token, L steps of a solution.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


@dataclass(frozen=True, slots=True)
class ServedPrm:
    """The process reward model of an `erprm serve`: its --prm, the name of its format and its kind.

    `eta` is that of the labels which its scores estimate, and `hash` that of its files, or its commit on the
    Hub; None: unknown.
    """

    model: Name
    format: Name
    kind: Name
    eta: float | None
    hash: Name | None


def read_prm(value: Any) -> ServedPrm:
    """Return the answer to GET /v1/prm."""
    try:
        return msgspec.convert(value, ServedPrm)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a description of a PRM ({error})") from None


def read_scores(value: Any, num_steps: int) -> tuple[list[float], ServedPrm]:
    """Return the scores of the one solution that POST /v1/score was asked for, and the PRM that gave them."""
    rows = value.get("scores") if isinstance(value, dict) else None
    if not isinstance(rows, list) or len(rows) != 1 or not isinstance(rows[0], list):
        raise ValueError("not the scores of one solution")
    if len(rows[0]) != num_steps:
        raise ValueError(f"{len(rows[0])} scores for {num_steps} steps")
    scores = [_number(one) for one in rows[0]]
    _check_probabilities(np.array(scores))
    return scores, read_prm(value.get("prm"))


def read_pooling(value: Any, num_tokens: int | None = None) -> NDArray[np.float64]:
    """Return the probabilities [T, C] of the one input that POST /pooling was asked for.

    T must be `num_tokens`, if that is given. With C = 1 each is a probability of its own; otherwise the C
    probabilities of a token add up to 1.
    """
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, list) or len(data) != 1 or not isinstance(data[0], dict):
        raise ValueError("not the output for one input")
    tokens = data[0].get("data")
    if not isinstance(tokens, list) or not tokens:
        raise ValueError("no numbers in it")
    if num_tokens is not None and len(tokens) != num_tokens:
        raise ValueError(f"numbers for {len(tokens)} tokens, not for {num_tokens}")
    columns = [token if isinstance(token, list) else [token] for token in tokens]
    if len({len(one) for one in columns}) != 1 or not columns[0]:
        raise ValueError("tokens with different counts of numbers")
    probability_TC = np.array([[_number(one) for one in token] for token in columns])
    _check_probabilities(probability_TC)
    if probability_TC.shape[1] > 1 and not np.allclose(probability_TC.sum(1), 1.0, atol=0.02, equal_nan=True):
        raise ValueError("classes whose probabilities do not add up to 1")
    return probability_TC


def _number(value: Any) -> float:
    """Return a number of an answer; JSON has no NaN, so that servers write null in its place."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("something that is not a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a number that is too large") from None


def _check_probabilities(numbers: NDArray[np.float64]) -> None:
    finite = numbers[np.isfinite(numbers)]
    if ((finite < 0) | (finite > 1)).any():
        raise ValueError("numbers outside 0 to 1, which are not probabilities")
