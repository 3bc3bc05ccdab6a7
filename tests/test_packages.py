"""What is said about a package that is not installed: what needs it, and the command that installs it."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import Result

from erprm_cli import app, packages
from erprm_cli.packages import Installer, check_packages, install_command
from tests.scripted_server import completed, serving

# A file of the environment and its content, by what made the environment.
MARKS = {
    Installer.uv_tool: ("uv-receipt.toml", ""),
    Installer.pipx: ("pipx_metadata.json", "{}"),
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
    assert packages.installer(str(tmp_path)) is kind


@pytest.mark.parametrize(
    ("name", "kind"), [("uv\n", Installer.uv), ("pip\n", Installer.pip), ("", Installer.pip)]
)
def test_the_metadata_says_who_installed_it(
    name: str, kind: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_metadata", {"INSTALLER": name}.__getitem__)
    assert packages.installer(str(tmp_path)) is kind


def test_the_cache_of_uvx_is_recognised(tmp_path: Path) -> None:
    assert packages.installer(str(tmp_path / "archive-v0" / "x1")) is Installer.uvx


@pytest.mark.parametrize("kind", Installer)
def test_the_commands_of_each(kind: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installer", lambda: kind)
    monkeypatch.setattr(packages, "_source", lambda: "erprm")
    assert (install_command("peft"), install_command("wandb")) == (EXTRA[kind], PACKAGE[kind])


def test_a_checkout_is_named_by_its_folder() -> None:
    assert install_command("zstandard") in (
        f"{packages.installer().value.format(source)}"
        for source in ("'erprm[zst]'", f"'{Path(__file__).parents[1]}[zst]'")
    )


@pytest.fixture
def by_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed with pip, by its name."""
    monkeypatch.setattr(packages, "installer", lambda: Installer.pip)
    monkeypatch.setattr(packages, "_source", lambda: "erprm")


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
@pytest.mark.usefixtures("by_pip")
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


@pytest.mark.usefixtures("by_pip")
def test_a_library_that_is_missed_later_is_named_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
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


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from erprm_cli.app import main
sys.argv[:2] = ["erprm"]
main()
"""
TRAIN = "torch,transformers,safetensors,tokenizers,huggingface_hub,accelerate,datasets,pyarrow"
ROW = {"id": "a", "problem": "p", "answer": "5", "sample": 0, "solution": "5", "steps": ["5"], "reward": 1.0}


@pytest.mark.parametrize("command", ["bon", "grade", "show", "convert", "label", "calibrate"])
def test_commands_without_a_model_need_no_extra(command: str) -> None:
    row = ROW | {"prediction": "5", "rollouts": [[1.0]], "scores": [0.5]}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, TRAIN, command],
        input=json.dumps(row) + "\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout, done.stderr


def test_a_server_needs_no_extra() -> None:
    with serving(lambda _, fields: completed(fields)) as server:
        words = ["sample", "tiny:test", "-L", "2", "-n", "1", "-m", "m", "--base-url", server.url]
        command = [sys.executable, "-c", WITHOUT, TRAIN, *words, "-t", "tiny"]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("\n") == 2, done.stderr
