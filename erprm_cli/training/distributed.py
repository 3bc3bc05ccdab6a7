"""Which process of a launch this is, what the settings of a launch need, and what if a process is lost."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from erprm_cli import shipped
from erprm_cli.errors import EngineError, UsageError
from erprm_cli.io.files import read_text
from erprm_cli.packages import TRAINING, check_packages
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import TrainingConfig


def world_size() -> int:
    """Return the number of processes of this launch, as accelerate and torchrun set it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Return whether this is the first process: the one that reads, reports and writes."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def ends_with_others() -> Iterator[None]:
    """Raise EngineError if another process of this launch is lost: it was killed, or has failed.

    torch has a class for such errors of NCCL and of its store. Those of gloo are known by their text only.
    """
    try:
        yield
    except RuntimeError as error:
        import torch

        if world_size() == 1 or not (isinstance(error, torch.distributed.DistError) or "gloo" in str(error)):
            raise
        reason = str(error).partition(". ")[0]
        raise EngineError(
            f"process {os.environ['RANK']} lost the connection to another process of this training "
            f"({reason}); the same command continues from the last checkpoint"
        ) from error


class Silence(Reporter):
    """The reporter of the other processes, which prints nothing."""

    def __init__(self) -> None:
        super().__init__("", quiet=True)

    def warn(self, message: str) -> None: ...


def accelerate_config(name: str) -> Path:
    """Return the file of a shipped configuration of accelerate, or `name` as a path. Raises UsageError."""
    path = shipped.template_path("accelerate", name, "accelerate configuration")
    if not path.is_file():
        raise UsageError("no such file", where=f"--accelerate-config {name}")
    return path


def sharded_by(config: str | None) -> str | None:
    """Return what shards the weights over processes, "DEEPSPEED" or "FSDP"; None if each process has all.

    `config` is the value of --accelerate-config. Without one, the environment that accelerate gives to the
    processes it starts decides. Raises UsageError if the file is not a configuration or names a file that is
    not there.
    """
    if config is not None:
        import yaml  # accelerate reads its configurations with it, JSON ones too

        try:
            settings = yaml.safe_load(read_text(accelerate_config(config)))
            kind = settings["distributed_type"]
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
            raise UsageError(
                f"{config} is not a configuration of accelerate: it has no distributed_type; "
                "`accelerate config --config_file FILE` writes one"
            ) from None
        file = (settings.get("deepspeed_config") or {}).get("deepspeed_config_file")
        if file is not None and not Path(file).is_file():
            raise UsageError(f"deepspeed_config_file {file}: no such file", where=config)
        return kind if kind in ("DEEPSPEED", "FSDP") else None
    kinds = (kind for kind in ("DEEPSPEED", "FSDP") if os.environ.get(f"ACCELERATE_USE_{kind}") == "true")
    return next(kinds, None)


def check_launch(config: TrainingConfig) -> None:
    """Raise UserError for a missing package or file that a training with `config` needs, before any work."""
    check_packages(TRAINING, "training")
    if config.lora_rank:
        check_packages(["peft"], "--lora-rank")
    if config.report_to != "none":
        check_packages([config.report_to], f"--report-to {config.report_to}")
    if sharded_by(config.accelerate_config) == "DEEPSPEED":
        check_packages(["deepspeed"], f"--accelerate-config {config.accelerate_config}")
