import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.training.batches import BatchPlan, RandomBatches, StepLoader, collate, micro_batches
from erprm_cli.training.examples import Examples
from tests.training.runs import example


@given(
    st.lists(st.integers(2, 60), min_size=1, max_size=40),
    st.integers(1, 120),
    st.integers(1, 4),
    st.booleans(),
)
def test_parts_hold_each_example_once_and_fit(
    lengths: list[int], budget: int, multiple: int, packed: bool
) -> None:
    parts = micro_batches(lengths, budget, multiple, packed)
    assert sorted(index for part in parts for index in part) == list(range(len(lengths)))
    assert len(parts) % multiple == 0
    for part in parts:
        sizes = [lengths[index] for index in part]
        assert sizes == sorted(sizes, reverse=True)
        assert len(part) < 2 or (sum(sizes) if packed else len(sizes) * sizes[0]) <= budget


def test_many_examples_are_divided_in_time_proportional_to_their_number(no_collection: None) -> None:
    """All validation examples are divided at once."""
    drawn = np.random.default_rng(0).lognormal(np.log(250), 0.5, 96_000)
    lengths = drawn.clip(20, 512).astype(int).tolist()
    seconds = []
    for count in (24_000, 96_000):
        each = []
        for _ in range(3):
            begin = time.process_time()
            parts = micro_batches(lengths[:count], 4096, 1, packed=False)
            each.append(time.process_time() - begin)
        seconds.append(min(each))
        assert len(parts) < 1.2 * sum(lengths[:count]) / 4096
    assert seconds[1] < 9 * seconds[0]  # 4 times as many examples; their square would be 16 times


def test_batches_are_random_and_new_each_epoch() -> None:
    batches = RandomBatches(50, 8, seed=0)
    first = list(batches)
    assert sorted(sum(first, [])) == list(range(50)) and first == list(batches)
    assert [len(batch) for batch in first] == [8] * 6 + [2] and len(batches) == 7
    batches.set_epoch(1)
    assert set(first[0]) != set(list(batches)[0])


def test_packed_examples_begin_at_position_0_and_keep_their_targets() -> None:
    padded, packed = (collate([example(7), example(4)], packed) for packed in (False, True))
    assert padded["input_ids"].shape == (2, 7) and packed["input_ids"].shape == (1, 11)
    assert packed["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3]]
    for name in ("targets", "weights"):
        assert torch.equal(padded[name], packed[name])
    at = [batch["input_ids"].flatten()[batch["positions"]] for batch in (padded, packed)]
    assert torch.equal(*at)


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_the_processes_of_a_step_share_its_examples_and_make_as_many_passes(
    examples: Examples, num_processes: int
) -> None:
    shares = [
        list(StepLoader(examples, BatchPlan(16, False, process, num_processes), 3, seed=0))
        for process in range(num_processes)
    ]
    for step in zip(*shares, strict=True):
        assert len({len(batches) for batches in step}) == 1
        weights = sum(float(batch["weights"].sum()) for batches in step for batch in batches)
        assert weights == pytest.approx(1.0)
