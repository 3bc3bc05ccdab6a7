"""The command that a remedy names is the one that works where erprm is installed."""

from pathlib import Path

import pytest

from erprm_cli.io import installer
from erprm_cli.io.installer import Installer, install_extra, install_package

# A file of the environment and its content, by what made the environment.
MARKS = {
    Installer.uv_tool: ("uv-receipt.toml", ""),
    Installer.pipx: ("pipx_metadata.json", "{}"),
    Installer.uv: ("pyvenv.cfg", "home = /usr/bin\nuv = 0.9.1\n"),
    Installer.pip: ("pyvenv.cfg", "home = /usr/bin\nversion = 3.11.7\n"),
}
EXTRA = {
    Installer.uv_tool: "uv tool install 'erprm[lora]'",
    Installer.pipx: "pipx install --force 'erprm[lora]'",
    Installer.uv: "uv pip install 'erprm[lora]'",
    Installer.pip: "pip install 'erprm[lora]'",
    Installer.uvx: "uvx --from 'erprm[lora]' erprm",
}
PACKAGE = {
    Installer.uv_tool: "uv tool install erprm --with wandb",
    Installer.pipx: "pipx inject erprm wandb",
    Installer.uv: "uv pip install wandb",
    Installer.pip: "pip install wandb",
    Installer.uvx: "uvx --from erprm --with wandb erprm",
}


@pytest.mark.parametrize("kind", MARKS)
def test_the_environment_says_what_made_it(kind: Installer, tmp_path: Path) -> None:
    name, content = MARKS[kind]
    (tmp_path / name).write_text(content)
    assert installer.installer(str(tmp_path)) is kind


def test_the_cache_of_uvx_is_recognised(tmp_path: Path) -> None:
    assert installer.installer(str(tmp_path / "archive-v0" / "x1")) is Installer.uvx


@pytest.mark.parametrize("kind", Installer)
def test_the_commands_of_each(kind: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "installer", lambda: kind)
    monkeypatch.setattr(installer, "_source", lambda: "erprm")
    assert (install_extra("lora"), install_package("wandb")) == (EXTRA[kind], PACKAGE[kind])


def test_a_checkout_is_named_by_its_folder() -> None:
    assert install_extra("zst") in (
        f"{installer.installer().value.format(source)}"
        for source in ("'erprm[zst]'", f"'{Path(__file__).parents[2]}[zst]'")
    )
