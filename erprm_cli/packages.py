"""Packages that only some commands need: whether they are installed, and the command that installs them."""

import sys
from collections.abc import Iterable
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from erprm_cli.errors import UserError

EXTRAS = {  # the extra of erprm that has a package
    **dict.fromkeys(("accelerate", "datasets", "pyarrow", "torch", "transformers"), "train"),
    "matplotlib": "plot",
    "peft": "lora",
    "trl": "rl",
    **dict.fromkeys(("fastapi", "prometheus_client", "uvicorn"), "serve"),
    "vllm": "vllm",
    "zstandard": "zst",
}
MODELS = ("torch", "transformers")  # to run a model
TRAINING = (*MODELS, "accelerate", "datasets")
SERVING = (*MODELS, "fastapi", "prometheus_client", "uvicorn")


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
    extra, found = EXTRAS.get(package), installer()
    if extra is None:
        return INJECTED.get(found, found.value).format(package)
    return found.value.format(f"'{_source()}[{extra}]'")


class Installer(Enum):
    """The program that installed erprm; the value is how it installs a requirement."""

    pip = "pip install {}"
    uv = "uv pip install {}"
    uv_tool = "uv tool install {}"
    uvx = "uvx --from {} erprm"
    pipx = "pipx install --force {}"


# How each adds another package; pip and uv do not distinguish the two.
INJECTED = {
    Installer.uv_tool: "uv tool install erprm --with {}",
    Installer.uvx: "uvx --from erprm --with {} erprm",
    Installer.pipx: "pipx inject erprm {}",
}


def installer(prefix: str = sys.prefix) -> Installer:
    """Return the program that installed erprm in the environment `prefix`."""
    folder = Path(prefix)
    if (folder / "uv-receipt.toml").is_file():
        return Installer.uv_tool
    if (folder / "pipx_metadata.json").is_file():
        return Installer.pipx
    if "archive-v0" in folder.parts:  # the cache of uv
        return Installer.uvx
    return Installer.uv if _metadata("INSTALLER").strip() == "uv" else Installer.pip  # PEP 376


def _source() -> str:
    """Return what was installed: the name, or the checkout or wheel that the environment was made from."""
    from json import loads
    from urllib.parse import unquote, urlparse

    url = urlparse(loads(_metadata("direct_url.json") or "{}").get("url", ""))  # PEP 610
    return unquote(url.path) if url.scheme == "file" else "erprm"


def _metadata(name: str) -> str:
    """Return a file of erprm's metadata; an empty text if there is none."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return distribution("erprm").read_text(name) or ""
    except PackageNotFoundError:  # a checkout on the path
        return ""
