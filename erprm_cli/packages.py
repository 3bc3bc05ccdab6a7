"""Packages that only some commands need: whether they are installed, and the command that installs them."""

import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

from erprm_cli.errors import UserError

EXTRAS = {  # the extra of erprm that has a package
    **dict.fromkeys(("accelerate", "datasets", "pyarrow", "torch", "transformers"), "train"),
    "matplotlib": "plot",
    "peft": "lora",
    "vllm": "vllm",
    "zstandard": "zst",
}
MODELS = ("torch", "transformers")  # to run a model
TRAINING = (*MODELS, "accelerate", "datasets")


def check_packages(packages: Iterable[str], needed_by: str) -> None:
    """Raise UserError for the first of `packages` that is not installed; `needed_by` is what needs them."""
    for package in packages:
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # only a folder of that name, such as wandb's logs
            raise missing_package(package, needed_by)


def missing_package(package: str, needed_by: str) -> UserError:
    """Return the error for a package that is not installed, with the command that installs it."""
    return UserError(f"{package} is not installed", remedy=f"{needed_by} needs: {install_command(package)}")


def install_command(package: str) -> str:
    """Return the command that adds a package to this installation, with the installer that made it."""
    extra = EXTRAS.get(package)
    wanted = f"'erprm[{extra}]'" if extra else package
    if "/uv/tools/" in sys.prefix:
        return f"uv tool install {wanted}" if extra else f"uv tool install erprm --with {wanted}"
    if "/pipx/venvs/" in sys.prefix:
        return f"pipx install --force {wanted}" if extra else f"pipx inject erprm {wanted}"
    return f"uv pip install {wanted}" if _installer() == "uv" else f"pip install {wanted}"


def _installer() -> str:
    """Return the program that installed erprm, as it wrote it down (PEP 376)."""
    try:
        return (distribution("erprm").read_text("INSTALLER") or "").strip()
    except PackageNotFoundError:  # a checkout on the path
        return ""
