"""Reads a solution from where an earlier reading of its first steps ended: keys and values are kept.

Only models whose cache consists of keys and values can do this; others read from the beginning.

B solutions, H heads of keys and values, P kept tokens (padded on the left), T new tokens (padded on the
right), D head width, N tags, R rows of the output layer
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from erprm_cli.models.outputs import flat_positions, output_at, pad
from erprm_cli.prm.tagger import Tagged

MEMORY_SHARE = 4  # at most one part in so many of the memory that is free at the first reading

KeysValues = list[tuple[Tensor, Tensor]]  # per layer, each [H, tokens, D]


@dataclass(frozen=True, slots=True)
class Reading:
    """A solution, and how many of its tokens have been read before."""

    tagged: Tagged
    known: int

    @property
    def num_new(self) -> int:
        """Tokens that are left to read."""
        return len(self.tagged.ids) - self.known

    @property
    def num_known_tags(self) -> int:
        """Tags among the tokens that have been read before; they come first."""
        return int((self.tagged.tags < self.known).sum())


class KeptReading:
    """Keys and values of what a model has read, found by the token ids, the oldest first."""

    def __init__(self, model: Any) -> None:
        """Take a model on its device."""
        self.model = model
        layers = DynamicCache(config=model.config.get_text_config()).layers
        self.can_keep = all(isinstance(layer, DynamicLayer) for layer in layers)
        self._kept: dict[bytes, KeysValues] = {}
        self._num_bytes, self._max_bytes = 0, 0

    def begin(self, tagged: Tagged) -> Reading:
        """Return where the reading of a solution can begin: after the longest part that is kept."""
        ends = (int(tag) + 1 for tag in tagged.tags[-2::-1])
        return Reading(tagged, next((end for end in ends if tagged.ids[:end].tobytes() in self._kept), 0))

    def read(self, batch: Sequence[Reading], rows: Sequence[int]) -> Tensor:
        """Return the logits [N, R] at the new tags of a batch, in one forward pass; keep what was read."""
        device = self.model.device
        ids_BT = pad([one.tagged.ids[one.known :] for one in batch])
        tags = [one.tagged.tags[one.num_known_tags :] - one.known for one in batch]
        num_kept = max(one.known for one in batch)
        known_B1 = torch.tensor([[one.known] for one in batch], device=device)
        time_T = torch.arange(ids_BT.shape[1], device=device)
        is_kept_BP = torch.arange(num_kept, device=device) >= num_kept - known_B1
        cache = self._cache(batch, num_kept) if num_kept else DynamicCache()
        with output_at(self.model, flat_positions(tags, ids_BT.shape[1]).to(device), rows):
            logits_NR: Tensor = self.model(
                input_ids=ids_BT.to(device),
                # New tokens need no mask: what pads them comes after all others.
                attention_mask=torch.cat([is_kept_BP, ids_BT.to(device) >= 0], 1) if num_kept else None,
                position_ids=known_B1 + time_T,
                past_key_values=cache,
                use_cache=True,
            ).logits
        for row, one in enumerate(batch):
            columns = slice(num_kept - one.known, num_kept + one.num_new)
            self._keep(one.tagged.ids.tobytes(), row, columns, cache.layers)
        return logits_NR

    def _cache(self, batch: Sequence[Reading], num_kept: int) -> DynamicCache:
        """Return a cache with what is kept of each solution, [B, H, P, D] per layer."""
        kept = [self._kept.get(one.tagged.ids[: one.known].tobytes()) for one in batch]
        example = next(states for states in kept if states is not None)
        nothing = [(keys[:, :0], values[:, :0]) for keys, values in example]
        cache = DynamicCache()
        for layer in range(len(example)):
            keys, values = (
                torch.stack([_padded((own or nothing)[layer][part], num_kept) for own in kept])
                for part in (0, 1)
            )
            cache.update(keys, values, layer)
        return cache

    def _keep(self, key: bytes, row: int, columns: slice, layers: Any) -> None:
        states = [
            (layer.keys[row, :, columns].clone(), layer.values[row, :, columns].clone()) for layer in layers
        ]
        self._max_bytes = self._max_bytes or _free_bytes(self.model.device) // MEMORY_SHARE
        self._num_bytes += _size(states) - _size(self._kept.pop(key, []))
        self._kept[key] = states
        while self._num_bytes > self._max_bytes:
            self._num_bytes -= _size(self._kept.pop(next(iter(self._kept))))


def _padded(states_HXD: Tensor, num_kept: int) -> Tensor:
    """Return keys or values with zeros before them, [H, P, D]."""
    return pad_tensor(states_HXD, (0, 0, num_kept - states_HXD.shape[1], 0))


def _size(states: KeysValues) -> int:
    return sum(part.nbytes for layer in states for part in layer)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
