"""How erprm was installed: with pip, uv or pipx, so that a remedy is a command that works there."""

import sys
from enum import Enum
from pathlib import Path

from erprm_cli.io.files import read_text


class Installer(Enum):
    """The program that made this environment; the value is how it adds a requirement."""

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
    """Return what made the environment in the folder `prefix`."""
    folder = Path(prefix)
    if (folder / "uv-receipt.toml").is_file():
        return Installer.uv_tool
    if (folder / "pipx_metadata.json").is_file():
        return Installer.pipx
    if "archive-v0" in folder.parts:  # the cache of uv
        return Installer.uvx
    settings = folder / "pyvenv.cfg"
    if settings.is_file() and "\nuv = " in read_text(settings):
        return Installer.uv
    return Installer.pip


def install_extra(extra: str) -> str:
    """Return the command that installs erprm with the extra `extra`, such as "lora"."""
    return installer().value.format(f"'{_source()}[{extra}]'")


def install_package(name: str) -> str:
    """Return the command that adds another package to the environment of erprm."""
    found = installer()
    return INJECTED.get(found, found.value).format(name)


def _source() -> str:
    """Return what was installed: the name, or the checkout or wheel that the environment was made from."""
    from importlib.metadata import PackageNotFoundError, distribution  # here: `--help` loads this module
    from json import loads
    from urllib.parse import unquote, urlparse

    try:
        origin = loads(distribution("erprm").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return "erprm"
    url = urlparse(origin.get("url", ""))
    return unquote(url.path) if url.scheme == "file" else "erprm"
