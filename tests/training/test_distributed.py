"""What the settings of a launch need: packages and configurations of accelerate."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from erprm_cli import packages
from erprm_cli.errors import EngineError, UsageError, UserError
from erprm_cli.training.config import PrmTrainingConfig
from erprm_cli.training.distributed import accelerate_config, check_launch, ends_with_others, sharded_by
from erprm_cli.training.prm_task import PrmTask


def test_an_unknown_accelerate_configuration_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="known names: fsdp2, multi-cpu, multi-gpu, zero2, zero3, or"):
        accelerate_config("fsdp3")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"report_to": "tensorboard"}, "tensorboard is not installed; --report-to tensorboard needs: pip"),
        ({"report_to": "wandb"}, "wandb is not installed; --report-to wandb needs: pip install wandb"),
        (
            {"report_to": "trackio"},
            "trackio is not installed; --report-to trackio needs: pip install trackio",
        ),
        ({"accelerate_config": "zero3"}, "deepspeed is not installed; --accelerate-config zero3 needs: pip"),
        ({"lora_rank": 4}, "peft is not installed; --lora-rank needs: "),
    ],
)
def test_a_missing_package_is_reported_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], reason: str
) -> None:
    installed = {"torch", "transformers", "accelerate", "datasets"}
    monkeypatch.setattr(packages, "find_spec", lambda name: find_spec(name) if name in installed else None)
    with pytest.raises(UserError, match=reason):
        PrmTask(PrmTrainingConfig(base=str(tmp_path / "no-model"), output=tmp_path / "prm", **changes))


@pytest.mark.parametrize("package", ["torch", "transformers", "accelerate", "datasets"])
@pytest.mark.parametrize("command", ["train", "rlhf"])
def test_the_libraries_are_looked_for_before_anything_is_written(
    command: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    erprm: Callable[..., Result],
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == package else find_spec(name))
    flags = ["--prm", "prm"] if command == "rlhf" else []
    done = erprm(command, "tiny:train", "-o", tmp_path / "made", *flags)
    assert str(done.exception) == (
        f"{package} is not installed; training needs: {packages.install_command(package)}"
    )
    assert (done.stdout, list(tmp_path.iterdir())) == ("", [])


def test_a_folder_with_the_name_of_a_package_is_not_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trackio").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    if find_spec("trackio") is None or find_spec("trackio").origin is None:  # type: ignore[union-attr]
        with pytest.raises(UserError, match="trackio is not installed"):
            check_launch(PrmTrainingConfig(tmp_path / "prm", report_to="trackio"))


@pytest.mark.parametrize("name", ["fsdp2", "multi-cpu", "multi-gpu", "zero2", "zero3"])
def test_accelerate_reads_the_shipped_configurations(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(accelerate_config(name)))
    sharded = {"fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}.get(name)
    assert sharded_by(name) == sharded
    assert loaded.distributed_type == (sharded or "MULTI_GPU")


def test_a_file_that_is_not_a_configuration_of_accelerate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text("- buy milk\n")
    with pytest.raises(UsageError, match="notes.yaml is not a configuration of accelerate"):
        sharded_by(str(tmp_path / "notes.yaml"))


def test_a_missing_deepspeed_file_is_named(tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text("distributed_type: DEEPSPEED\ndeepspeed_config:\n  deepspeed_config_file: gone.json\n")
    with pytest.raises(UsageError, match="own.yaml: deepspeed_config_file gone.json: no such file"):
        sharded_by(str(config))


ALONE = """
import os, sys, time, torch
from datetime import timedelta
from erprm_cli.training.distributed import ends_with_others
torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
if os.environ["RANK"] == "1":
    os._exit(0)
with ends_with_others():
    while True:
        torch.distributed.all_reduce(torch.ones(1))
"""


@pytest.mark.distributed
def test_a_process_whose_peer_is_gone_ends_with_an_error_of_the_engine(tmp_path: Path) -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE],
            env=os.environ | address | {"RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate()[1] for process in processes]
    assert "EngineError: process 0 lost the connection to another process of this training" in said[0]
    assert "; the same command continues from the last checkpoint" in said[0]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_an_error_of_the_store_is_one_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(EngineError, match="process 1 lost the connection"), ends_with_others():
        torch.distributed.TCPStore(  # type: ignore[attr-defined]
            "127.0.0.1", free_port(), is_master=False, timeout=timedelta(milliseconds=100)
        )


def test_other_errors_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="out of memory"), ends_with_others():
        raise RuntimeError("out of memory")
