"""Logits at chosen positions of a batch, without computing the others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear


def max_positions(config: Any) -> int | None:
    """Return how many tokens a model of this configuration can read, or None if it does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


@contextmanager
def output_at(model: nn.Module, position_N: Tensor, rows: Sequence[int] | None = None) -> Iterator[None]:
    """Let the logits of the model, when called inside, be [N, len(rows)], at `position_N` of the flat [B*T].

    The output layer's forward is replaced and nothing else: whatever the architecture does to its logits
    afterwards (soft-capping, scaling), wrappers of the model (DDP, FSDP) and the layer's place in
    checkpoints stay as they are. The rows are multiplied in float32, as probabilities are made of a
    difference of logits which bfloat16 rounds to 1/16. With `rows` None, all rows in the model's own type.
    The output layer of a token classification model is its `score`, whose rows are the classes.
    """
    head: Any = model.get_output_embeddings() or model.score  # type: ignore[operator]  # PreTrainedModel's
    last: Any
    *layers, last = head if isinstance(head, nn.Sequential) else [head]
    chosen = None if rows is None else list(rows)

    def forward(hidden_BTD: Tensor) -> Tensor:
        hidden_ND = hidden_BTD.flatten(0, -2)[position_N]
        if chosen is None:
            return type(head).forward(head, hidden_ND)  # type: ignore[no-any-return]
        bias = None if getattr(last, "bias", None) is None else last.bias[chosen].float()
        with torch.autocast(hidden_ND.device.type, enabled=False):
            for layer in layers:  # of Qwen's head, which load_prm keeps in float32
                hidden_ND = layer(hidden_ND.float())
            return linear(hidden_ND.float(), last.weight[chosen].float(), bias)

    head.forward = forward
    try:
        yield
    finally:
        del head.forward


def pad(sequences: Sequence[NDArray[np.int32]]) -> Tensor:
    """Return [B, T] of token ids, padded on the right with 0.

    No attention mask goes with it: a causal model's tokens never look to their right, so what stands there
    does not matter, and attention without a mask is faster.
    """
    padded_BT = np.zeros((len(sequences), max(map(len, sequences))), np.int64)
    for row, ids in enumerate(sequences):
        padded_BT[row, : len(ids)] = ids
    return torch.from_numpy(padded_BT)


def flat_positions(positions: Sequence[NDArray[np.int32]], width: int) -> Tensor:
    """Return the places [N] in a flattened [B, width] of the positions of each of the B sequences."""
    places = [row * width + place.astype(np.int64) for row, place in enumerate(positions)]
    return torch.from_numpy(np.concatenate(places))
