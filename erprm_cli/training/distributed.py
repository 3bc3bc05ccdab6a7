"""Which process of a launch this is, and what the settings of a launch need."""

import os
from importlib.util import find_spec
from pathlib import Path

from erprm_cli import shipped
from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.files import read_text
from erprm_cli.io.installer import install_extra, install_package
from erprm_cli.terminal.reporter import Reporter


def world_size() -> int:
    """Return the number of processes of this launch, as accelerate and torchrun set it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Return whether this is the first process: the one that reads, reports and writes."""
    return os.environ.get("RANK", "0") == "0"


class Silence(Reporter):
    """The reporter of the other processes, which prints nothing."""

    def __init__(self) -> None:
        super().__init__("", quiet=True)

    def warn(self, message: str) -> None: ...


def accelerate_config(name: str) -> Path:
    """Return the file of a shipped configuration of accelerate, or `name` as a path. Raises UsageError."""
    path = shipped.template_path("accelerate", name, "accelerate configuration")
    if not path.is_file():
        raise UsageError(f"--accelerate-config {name}: no such file")
    return path


def sharded_by(config: str | None) -> str | None:
    """Return what shards the weights over processes, "DEEPSPEED" or "FSDP"; None if each process has all.

    `config` is the value of --accelerate-config. Without one, the environment that accelerate gives to the
    processes it starts decides. Raises UsageError if the file is not a configuration.
    """
    if config is not None:
        import yaml  # accelerate reads its configurations with it, JSON ones too

        try:
            kind = yaml.safe_load(read_text(accelerate_config(config)))["distributed_type"]
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
            raise UsageError(
                f"{config} is not a configuration of accelerate: it has no distributed_type; "
                "`accelerate config --config_file FILE` writes one"
            ) from None
        return kind if kind in ("DEEPSPEED", "FSDP") else None
    kinds = (kind for kind in ("DEEPSPEED", "FSDP") if os.environ.get(f"ACCELERATE_USE_{kind}") == "true")
    return next(kinds, None)


def check_packages(accelerate_config: str | None, lora_rank: int = 0, report_to: str = "none") -> None:
    """Raise UserError if a package that these settings need is missing, before any work is done."""
    needed = []
    if lora_rank:
        needed.append(("peft", "--lora-rank", install_extra("lora")))
    if report_to != "none":
        needed.append((report_to, f"--report-to {report_to}", install_package(report_to)))
    if sharded_by(accelerate_config) == "DEEPSPEED":
        needed.append(("deepspeed", f"--accelerate-config {accelerate_config}", install_package("deepspeed")))
    for package, flag, remedy in needed:
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # only a folder of that name, such as wandb's logs
            raise UserError(f"{package} is not installed; {flag} needs: {remedy}")
