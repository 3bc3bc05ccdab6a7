"""The examples of a training: tokenised once, kept on disk, cut into the forward passes of a step.

Examples lie in an Arrow file that `datasets` maps into memory, so that 250,000 solutions cost the memory of
those that are looked at, and all processes of a machine share it. What was tokenised from a file is kept in
the cache of `datasets` under a hash of the file's bytes, the tokenizer and the settings.

A step's batch is a plain random one. Its examples are sorted by length and cut into parts of nearly equal
tokens that fit `budget`, a multiple of the number of processes: what a process gets is as much as any other
gets, little is padding, and the gradient is not biased by length.

B examples, T tokens (padded), N targets of a micro-batch
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from erprm_cli.models.outputs import flat_positions, pad
from erprm_cli.training.examples import Example, Examples


def micro_batches(lengths: Sequence[int], budget: int, multiple: int, packed: bool) -> list[list[int]]:
    """Return the indices of `lengths`, longest first, cut into parts of nearly equal tokens.

    A part of several examples fits `budget` tokens, with its padding unless `packed`. The number of parts
    is a multiple of `multiple`; where there are fewer examples than parts, parts are empty.

    >>> micro_batches([2, 9, 3, 3], 9, 1, packed=False)
    [[1], [2, 3, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    ends = np.cumsum([lengths[index] for index in order])
    middles = ends - np.array([lengths[index] for index in order]) / 2
    total = int(ends[-1])
    count = multiple * max(1, math.ceil(total / budget / multiple))
    while True:
        part_of = np.minimum((middles * count / total).astype(int), count - 1)
        parts: list[list[int]] = [[] for _ in range(count)]
        for index, part in zip(order, part_of.tolist(), strict=True):
            parts[part].append(index)
        if all(
            len(part) < 2
            or (sum(lengths[i] for i in part) if packed else len(part) * lengths[part[0]]) <= budget
            for part in parts
        ):
            return parts
        count += multiple


def collate(examples: Sequence[Example], packed: bool = False) -> dict[str, Tensor]:
    """Return what one forward pass reads, and the positions [N] in the flattened ids, targets and weights.

    input_ids are [B, T], padded on the right, without a mask (see `prm.pad`); or `packed` [1, T], with
    position_ids that begin anew with each example, which tells transformers where attention must end.
    """
    places = [example.positions for example in examples]
    if packed:
        lengths = [len(example.ids) for example in examples]
        begins = np.cumsum([0, *lengths[:-1]])
        batch = {
            "input_ids": torch.from_numpy(
                np.concatenate([example.ids for example in examples]).astype(np.int64)
            )[None],
            "position_ids": torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))[None],
            "positions": torch.from_numpy(
                np.concatenate([place + begin for place, begin in zip(places, begins, strict=True)])
            ),
        }
    else:
        ids_BT = pad([example.ids for example in examples])
        batch = {"input_ids": ids_BT, "positions": flat_positions(places, ids_BT.shape[1])}
    targets = np.concatenate([example.targets for example in examples])
    return batch | {
        "targets": torch.from_numpy(targets.astype(np.int64) if targets.dtype.kind == "i" else targets),
        "weights": torch.from_numpy(np.concatenate([example.weights for example in examples])),
    }


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How a batch is cut: tokens of a forward pass, packed or padded; which process this is of how many."""

    budget: int
    packed: bool
    process: int = 0
    num_processes: int = 1

    def parts(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return this process's parts of a batch; the number is the same in every process."""
        whole = micro_batches(lengths, self.budget, self.num_processes, self.packed)
        return whole[self.process :: self.num_processes]


class Steps(Dataset[Any]):
    """The examples as a DataLoader of steps reads them: what __getitems__ gives is one optimizer step."""

    def __init__(self, examples: Examples, cut: BatchPlan) -> None:
        self.examples, self.cut = examples, cut

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        """Return the micro-batches of this process; weights are shares of the whole batch and sum to 1."""
        lengths = self.examples.lengths[indices].tolist()
        total = float(self.examples.weights[indices].sum())
        found = []
        for part in self.cut.parts(lengths):
            # Every process makes as many forward passes as any other: one with nothing to do reads the
            # shortest example for nothing.
            chosen = [indices[place] for place in part] or [indices[int(np.argmin(lengths))]]
            batch = collate(self.examples.take(chosen), self.cut.packed)
            batch["weights"] = batch["weights"] / total if part else torch.zeros_like(batch["weights"])
            found.append(batch)
        return found


class RandomBatches(Sampler[list[int]]):
    """Batches of `size` indices, drawn without replacement and anew each epoch."""

    def __init__(self, count: int, size: int, seed: int) -> None:
        self.count, self.size, self.seed, self.epoch = count, size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.count / self.size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count).tolist()
        for begin in range(0, self.count, self.size):
            yield order[begin : begin + self.size]


class StepLoader(DataLoader[Any]):
    """Yields the micro-batches of one step after the other."""

    def __init__(self, examples: Examples, cut: BatchPlan, batch_size: int, seed: int) -> None:
        batches = RandomBatches(len(examples), batch_size, seed)
        super().__init__(Steps(examples, cut), batch_sampler=batches, collate_fn=_as_it_is)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Trainer calls it before each."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def _as_it_is(batch: Any) -> Any:
    return batch
