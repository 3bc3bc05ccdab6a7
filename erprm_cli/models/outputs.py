"""Compute logits at chosen positions of a batch only.

Shapes: B sequences, T tokens, D hidden width, N chosen positions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear

from erprm_cli.errors import UserError


def max_positions(config: Any) -> int | None:
    """Return the longest input in tokens of a model with this configuration; None if it does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def check_token(model: Any, token: int) -> None:
    """Raise UserError if a model has no embedding of `token`, the largest id of its input."""
    num_tokens = model.get_input_embeddings().weight.shape[0]
    if token >= num_tokens:
        raise UserError(
            f"the tokenizer of {model.name_or_path} gives the token {token:,}, but the model has "
            f"{num_tokens:,}; the folder mixes files of two models"
        )


@contextmanager
def output_at(model: nn.Module, position_N: Tensor, rows: Sequence[int] | None = None) -> Iterator[None]:
    """Inside this context the model returns logits [N, len(rows)], at `position_N` of the flattened [B*T].

    `rows` are rows of the output layer (tokens, or the classes of a token classification model's `score`).
    Their products are computed in float32, because probabilities depend on a difference of logits, which
    bfloat16 rounds to 1/16. If `rows` is None, all rows are computed in the model's own dtype.

    Only the forward of the output layer is replaced. What the architecture does to its logits afterwards
    (soft-capping, scaling), wrappers of the model (DDP, FSDP) and the layer's name in checkpoints do not
    change.
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
            for layer in layers:  # the head of Qwen PRMs has several, which load_prm keeps in float32
                hidden_ND = layer(hidden_ND.float())
            return linear(hidden_ND.float(), last.weight[chosen].float(), bias)

    head.forward = forward
    try:
        yield
    finally:
        del head.forward


def pad(sequences: Sequence[NDArray[np.int32]]) -> Tensor:
    """Return token ids as [B, T], padded on the right with 0.

    No attention mask is needed: a causal model's tokens attend to their left only, so the padding has no
    effect, and attention without a mask is faster.
    """
    padded_BT = np.zeros((len(sequences), max(map(len, sequences))), np.int64)
    for row, ids in enumerate(sequences):
        padded_BT[row, : len(ids)] = ids
    return torch.from_numpy(padded_BT)


def flat_positions(positions: Sequence[NDArray[np.int32]], width: int) -> Tensor:
    """Return the positions of B sequences as indices [N] into a flattened [B, width]."""
    flat = [row * width + position.astype(np.int64) for row, position in enumerate(positions)]
    return torch.from_numpy(np.concatenate(flat))
