"""What the tests of training share: one short training, and how to compare two of them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PrmTrainingConfig
from erprm_cli.training.examples import Example
from erprm_cli.training.train import train_prm
from tests.tiny_models import solution_rows

FSDP2_ON_CPU = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
mixed_precision: 'no'
num_machines: 1
machine_rank: 0
use_cpu: true
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_cpu_ram_efficient_loading: true
  fsdp_state_dict_type: SHARDED_STATE_DICT
"""

LENGTHS = (5, 9, 2, 7, 30, 4, 4)  # of the examples of the fixture `examples`

Log = list[dict[str, Any]]


class Killed(BaseException):
    pass


def example(length: int) -> Example:
    positions = np.arange(1, length, 3, dtype=np.int32)
    values = np.linspace(0, 1, len(positions), dtype=np.float32)
    ids = np.arange(length, dtype=np.int32) + 100 * length
    return Example(ids, positions, values, np.full(len(positions), 0.5, np.float32), length % 2 == 0)


def run(base: str, output: Path, kill_at: int | None = None, **changes: Any) -> Log:
    """Train 12 steps with a checkpoint every 2, or die at a step; return the log."""
    settings: dict[str, Any] = {"epochs": 3.0, "lr": 1e-2, "batch_size": 13, "log_every": 1, "save_steps": 2}
    log: Log = []

    def record(row: dict[str, Any]) -> None:
        log.append(row)
        if row["step"] == kill_at:
            raise Killed

    config = PrmTrainingConfig(base=base, output=output, **settings | changes)
    train_prm(solution_rows(48, labels=True), config, record, Reporter("train"))
    return log


def command(base: str, rows_file: Path, output: Path, *more: str) -> list[str]:
    """Return the command that trains as `run` does, but logs every tenth step and each that saves."""
    words = f"{rows_file} --base {base} -o {output} --lr 1e-2 --epochs 3 --batch-size 13 --save-steps 2"
    return [sys.executable, "-m", "erprm_cli", "train", *words.split(), *more]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_equal_bits(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def assert_close(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=2e-3), name
