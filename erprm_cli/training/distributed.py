"""Which process of a launch this is, and what a launch needs."""

import os
from importlib.util import find_spec
from pathlib import Path

from erprm_cli import shipped
from erprm_cli.errors import UsageError, UserError
from erprm_cli.terminal.reporter import Reporter


def world_size() -> int:
    """Return the number of processes of this launch; accelerate and torchrun say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that reads, speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


class Silence(Reporter):
    """What the other processes have to say."""

    def __init__(self) -> None:
        super().__init__("", quiet=True)

    def warn(self, message: str) -> None: ...


def accelerate_config(name: str) -> Path:
    """Return a shipped configuration of accelerate by name, or the file that `name` is; or UsageError."""
    path = shipped.template_path("accelerate", name, "accelerate configuration")
    if not path.is_file():
        raise UsageError(f"--accelerate-config {name}: no such file")
    return path


def spread_by(config: str | None) -> str | None:
    """Return what spreads the weights over processes, DEEPSPEED or FSDP; None where each has all of them.

    `config` is what --accelerate-config says; without it, what accelerate has told a process it started.
    """
    if config is not None:
        import yaml  # accelerate reads its configurations with it, JSON too

        try:
            kind = yaml.safe_load(accelerate_config(config).read_text(encoding="utf-8"))["distributed_type"]
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
            raise UsageError(
                f"{config} is no configuration of accelerate: no distributed_type; `accelerate config "
                "--config_file FILE` writes one"
            ) from None
        return kind if kind in ("DEEPSPEED", "FSDP") else None
    kinds = (kind for kind in ("DEEPSPEED", "FSDP") if os.environ.get(f"ACCELERATE_USE_{kind}") == "true")
    return next(kinds, None)


def check_packages(accelerate_config: str | None, lora_rank: int = 0, report_to: str = "none") -> None:
    """Raise UserError if a package is missing that these settings of a training need, before work is done."""
    needed = []
    if lora_rank:
        needed.append(("peft", "--lora-rank", "'erprm[lora]'"))
    if report_to != "none":
        needed.append((report_to, f"--report-to {report_to}", report_to))
    if spread_by(accelerate_config) == "DEEPSPEED":
        needed.append(("deepspeed", f"--accelerate-config {accelerate_config}", "deepspeed"))
    for package, flag, remedy in needed:
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # a folder of that name is none, as wandb leaves one behind
            raise UserError(f"{package} is not installed; {flag} needs: pip install {remedy}")
