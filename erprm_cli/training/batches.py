"""Batches: which examples make an optimizer step, and how they are divided into forward passes.

The batch of a step is a plain random one. Its examples are sorted by length and divided into micro-batches of
nearly equal numbers of tokens that fit `budget`; their number is a multiple of the number of processes. So
all processes have the same work, there is little padding, and the gradient is not biased by length.

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
    """Divide the indices of `lengths`, longest first, into parts of nearly equal numbers of tokens.

    A part of several examples fits `budget` tokens, padding included unless `packed`. The number of parts is
    a multiple of `multiple`; if there are fewer examples than parts, some parts are empty.

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
        # 1 % more at least: the number of tries must not grow with that of the examples.
        count += multiple * max(1, count // (100 * multiple))


def collate(examples: Sequence[Example], packed: bool = False) -> dict[str, Tensor]:
    """Return the input of one forward pass, and the positions [N] (in the flat ids), targets and weights.

    input_ids are [B, T], padded on the right, without a mask (see `models.outputs.pad`). If `packed`, they
    are [1, T], with position_ids that restart with each example: so transformers knows where attention ends.
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
    """How a batch is divided: tokens per forward pass, packed or padded; this process among how many."""

    budget: int
    packed: bool
    process: int = 0
    num_processes: int = 1

    def parts(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return the parts of a batch for this process; every process has the same number of them."""
        whole = micro_batches(lengths, self.budget, self.num_processes, self.packed)
        return whole[self.process :: self.num_processes]


class Steps(Dataset[Any]):
    """The examples as a dataset whose items, fetched by __getitems__, are whole optimizer steps."""

    def __init__(self, examples: Examples, plan: BatchPlan) -> None:
        self.examples, self.plan = examples, plan

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        """Return the micro-batches of this process; weights are shares of the whole batch and sum to 1."""
        lengths = self.examples.lengths[indices].tolist()
        total = float(self.examples.weights[indices].sum())
        found = []
        for part in self.plan.parts(lengths):
            # Every process makes the same number of forward passes: one that has no example left runs the
            # shortest one with weight 0.
            chosen = [indices[place] for place in part] or [indices[int(np.argmin(lengths))]]
            batch = collate(self.examples.take(chosen), self.plan.packed)
            batch["weights"] = batch["weights"] / total if part else torch.zeros_like(batch["weights"])
            found.append(batch)
        return found


class RandomBatches(Sampler[list[int]]):
    """Batches of `size` indices, without replacement; shuffled again in each epoch."""

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
    """Yields the micro-batches of one step at a time."""

    def __init__(self, examples: Examples, plan: BatchPlan, batch_size: int, seed: int) -> None:
        batches = RandomBatches(len(examples), batch_size, seed)
        super().__init__(Steps(examples, plan), batch_sampler=batches, collate_fn=_unchanged)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Trainer calls it before each."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def _unchanged(batch: Any) -> Any:
    return batch
