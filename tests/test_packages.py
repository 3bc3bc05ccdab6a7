"""What is said about a package that is not installed: what needs it, and the command that installs it."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import Result

from erprm_cli import app, packages
from erprm_cli.packages import check_packages, install_command


@pytest.mark.parametrize(
    ("prefix", "installer", "torch", "deepspeed"),
    [
        ("/home/me/.venv", "pip", "pip install 'erprm[train]'", "pip install deepspeed"),
        ("/home/me/.venv", "", "pip install 'erprm[train]'", "pip install deepspeed"),
        ("/home/me/.venv", "uv", "uv pip install 'erprm[train]'", "uv pip install deepspeed"),
        (
            "/home/me/.local/share/uv/tools/erprm",
            "uv",
            "uv tool install 'erprm[train]'",
            "uv tool install erprm --with deepspeed",
        ),
        (
            "/home/me/.local/share/pipx/venvs/erprm",
            "pip",
            "pipx install --force 'erprm[train]'",
            "pipx inject erprm deepspeed",
        ),
    ],
)
def test_the_command_is_that_of_the_installer(
    prefix: str, installer: str, torch: str, deepspeed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(packages, "_installer", lambda: installer)
    assert (install_command("torch"), install_command("deepspeed")) == (torch, deepspeed)


def test_what_is_installed_is_not_missed() -> None:
    check_packages(["orjson", "typer"], "reading")


@pytest.mark.parametrize(
    ("words", "package", "message"),
    [
        (["sample", "tiny:test"], "torch", "--engine transformers needs: pip install 'erprm[train]'"),
        (["sample", "--engine", "vllm"], "vllm", "--engine vllm needs: pip install 'erprm[vllm]'"),
        (["rollout"], "transformers", "--engine transformers needs: pip install 'erprm[train]'"),
        (["score", "--prm", "tiny"], "torch", "the PRM tiny needs: pip install 'erprm[train]'"),
        (
            ["bon", "--prm", "tiny", "--engine", "vllm"],
            "vllm",
            "the PRM tiny needs: pip install 'erprm[vllm]'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_looks_for_its_packages_before_it_reads(
    words: list[str],
    package: str,
    message: str,
    erprm: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == package else find_spec(name))
    done = erprm(*words, "-o", "out.jsonl")
    assert str(done.exception) == f"{package} is not installed; {message}"
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_is_missed_later_is_named_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise ModuleNotFoundError("No module named 'peft'", name="peft")

    monkeypatch.setattr(app, "catch_signals", lambda: None)
    monkeypatch.setattr(app, "make_app", broken)
    with pytest.raises(SystemExit) as ended:
        app.main()
    said = capsys.readouterr().err
    assert (ended.value.code, said) == (
        1,
        "erprm: peft is not installed; this command needs: pip install 'erprm[lora]'\n",
    )
