"""What the settings of a launch need: packages and configurations of accelerate."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from erprm_cli import packages
from erprm_cli.errors import UsageError, UserError
from erprm_cli.training.config import PrmTrainingConfig
from erprm_cli.training.distributed import accelerate_config, check_launch, sharded_by
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
