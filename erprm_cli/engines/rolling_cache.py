"""A key-value cache for completions that enter and leave while the batch keeps decoding.

All slots share one time axis: a decode step at time `now` writes one column for every slot, so a write is
a slice and nothing is ever concatenated. A slot's sequence is the columns from its own start to `now`. That
is ordinary left padding: a 2-D attention mask marks the start and position ids count from it, so every
decoder of transformers runs on this cache unchanged, sliding windows included.

Shapes: B slots, H heads of keys and values, G query heads for each of them, C columns, P prompt tokens,
D head width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "erprm_grouped"  # the name of `grouped_attention` among transformers' implementations

KeysValues = tuple[Tensor, Tensor]


def move_columns(old: Tensor, shift: int, begin: int, end: int, num_columns: int) -> Tensor:
    """Return `old` with columns begin:end of its last-but-one dimension at begin+shift:end+shift.

    In place if it has `num_columns` columns already. The other columns are stale but finite: attention gives
    them weight 0, which would not hide a NaN.
    """
    if shift == 0 and old.shape[-2] == num_columns:
        return old
    kept = old[..., begin:end, :]
    if old.shape[-2] == num_columns:
        new, kept = old, kept.clone()  # source and destination may overlap
    else:
        new = old.new_zeros((*old.shape[:-2], num_columns, old.shape[-1]))
    new[..., begin + shift : end + shift, :] = kept
    return new


class RollingCache(Cache):
    """A transformers cache of B slots in which attention sees the columns of times first .. now.

    `base` is the time of column 0. `examples` are keys and values of each layer, of any batch and length;
    they determine its heads, widths and dtype.
    """

    def __init__(self, examples: Sequence[KeysValues], num_slots: int, num_columns: int) -> None:
        self.base = self.first = self.now = 0
        self.num_columns = num_columns
        self.states = [_Layer(self, keys, values, num_slots, num_columns) for keys, values in examples]
        super().__init__(layers=list(self.states))

    def rebase(self, base: int, num_columns: int) -> None:
        """Make column 0 that of time `base`, with room for `num_columns`; times first .. now-1 are kept."""
        begin, end = self.first - self.base, self.now - self.base
        for layer in self.states:
            layer.keys = move_columns(layer.keys, self.base - base, begin, end, num_columns)
            layer.values = move_columns(layer.values, self.base - base, begin, end, num_columns)
        self.base, self.num_columns = base, num_columns

    def insert(self, slots: Tensor, prompt: Sequence[KeysValues]) -> None:
        """Write a prompt's keys and values, [H, P, D] per layer, into `slots`, ending just before `now`."""
        end = self.now - self.base
        for layer, (keys_HPD, values_HPD) in zip(self.states, prompt, strict=True):
            columns = slice(end - keys_HPD.shape[1], end)
            layer.keys[slots, :, columns] = keys_HPD
            layer.values[slots, :, columns] = values_HPD

    def select(self, slots: Tensor) -> None:
        """Keep only `slots`, in that order."""
        for layer in self.states:
            layer.keys, layer.values = layer.keys[slots], layer.values[slots]


class _Layer(CacheLayerMixin):
    keys: Tensor
    values: Tensor
    is_sliding = False  # every column is kept; the mask of a sliding layer hides the old ones

    def __init__(
        self, cache: RollingCache, keys: Tensor, values: Tensor, num_slots: int, num_columns: int
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache = cache
        self.keys = keys.new_zeros((num_slots, keys.shape[-3], num_columns, keys.shape[-1]))
        self.values = values.new_zeros((num_slots, values.shape[-3], num_columns, values.shape[-1]))
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> KeysValues:
        """Write the column of `now`; return the columns that attention sees, [B, H, now - first + 1, D]."""
        begin, end = self.cache.first - self.cache.base, self.cache.now - self.cache.base
        self.keys[:, :, end : end + 1] = key_states
        self.values[:, :, end : end + 1] = value_states
        return self.keys[:, :, begin : end + 1], self.values[:, :, begin : end + 1]

    def get_seq_length(self) -> int:
        return self.cache.now - self.cache.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: everything was allocated at the start."""


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return the attention output, [B, 1, H*G, D], reading each key and value once for its G query heads.

    With a mask, transformers' own sdpa copies every key and value G times at each step of each layer. For one
    new token, G query heads can be treated as G queries of one head, and two matrix products are faster on a
    CPU than the fused kernel, which is made for long queries. Long queries use transformers' own sdpa.
    """
    num_slots, num_query_heads, num_queries, width = query.shape
    if num_queries > 1 or attention_mask is None or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    scale = width**-0.5 if scaling is None else scaling
    query_BHGD = (query * scale).reshape(num_slots, key.shape[1], -1, width)
    score_BHGC = (query_BHGD @ key.transpose(-1, -2)).add_(attention_mask)
    weight_BHGC = score_BHGC.softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weight_BHGC @ value).reshape(num_slots, 1, num_query_heads, -1), None


def additive_mask(*, q_length: int, dtype: torch.dtype, **kwargs: Any) -> Tensor | None:
    """Return transformers' sdpa mask; for a decode step as numbers to add, computed once for all layers."""
    if q_length > 1:
        return sdpa_mask(q_length=q_length, **kwargs)
    visible = sdpa_mask(q_length=q_length, **{**kwargs, "allow_is_causal_skip": False})
    assert visible is not None
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(
        ~visible, torch.finfo(dtype).min
    )


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, additive_mask)
