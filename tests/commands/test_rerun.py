"""`erprm rerun`: the recorded command again, with what has changed since."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from erprm_cli import __version__
from erprm_cli.io.content import BLOCK_BYTES, SAMPLES, sampled_hash
from tests.torture import rows

LABELLED = {"id": "a", "rollouts": [[1.0, 0.0]]}


def erprm(*words: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "erprm_cli", *words]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with in.jsonl and the labels out.jsonl that `erprm label` made of it."""
    rows.write(tmp_path / "in.jsonl", [LABELLED])
    done = erprm("label", "in.jsonl", "--eta", "2", "-q", "-o", "out.jsonl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def change(folder: Path, **run: Any) -> None:
    """Change what the sidecar of out.jsonl says of its run."""
    path = folder / "out.jsonl.meta.json"
    meta = json.loads(path.read_text())
    meta["runs"][-1] |= run
    path.write_text(json.dumps(meta))


def test_the_same_rows_in_another_file(made: Path) -> None:
    done = erprm("rerun", "out.jsonl", "-o", "again.jsonl", folder=made)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "erprm rerun: erprm label in.jsonl --eta 2 -q -o again.jsonl\n"
    assert (made / "again.jsonl").read_bytes() == (made / "out.jsonl").read_bytes()
    (run,) = json.loads((made / "again.jsonl.meta.json").read_text())["runs"]
    assert run["command"] == "erprm label in.jsonl --eta 2 -q -o again.jsonl"


def test_without_an_output_the_file_is_made_again(made: Path) -> None:
    before = (made / "out.jsonl").read_bytes()
    assert erprm("rerun", "out.jsonl", "-q", folder=made).returncode == 0
    assert (made / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize("word", ["--output=out.jsonl", "-oout.jsonl"])
def test_other_spellings_of_the_output(word: str, made: Path) -> None:
    change(made, command=f"erprm label in.jsonl {word}")
    assert erprm("rerun", "out.jsonl", "-o", "again.jsonl", folder=made).returncode == 0
    assert (made / "again.jsonl").exists()


@pytest.mark.parametrize(
    ("run", "warning"),
    [
        ({"erprm": "0.0.1"}, f"made with erprm 0.0.1; this is {__version__}"),
        ({"torch": "1.0"}, "made with torch 1.0; "),
        ({"inputs": {"gone.jsonl": "12"}}, "the input gone.jsonl is not there any more"),
        ({"inputs": {"in.jsonl": "12"}}, "the input in.jsonl has changed since"),
    ],
    ids=["version", "library", "gone", "changed"],
)
def test_what_differs_today_is_said_first(run: dict[str, Any], warning: str, made: Path) -> None:
    change(made, **run)
    first, last = erprm("rerun", "out.jsonl", "-o", "again.jsonl", folder=made).stderr.splitlines()
    assert first.startswith(f"erprm rerun: warning: {warning}")
    assert last.startswith("erprm rerun: erprm label")


def test_a_model_that_was_trained_again_is_named(tmp_path: Path) -> None:
    from tests.tiny_models import save_model

    save_model(tmp_path / "policy")
    rows.write(tmp_path / "in.jsonl", [rows.problem(1)])
    words = "sample in.jsonl -m ./policy -t math -n 1 --max-tokens 2 -q -o out.jsonl".split()
    done = erprm(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    config = tmp_path / "policy" / "generation_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"top_k": 7}))
    done = erprm("rerun", "out.jsonl", "-o", "again.jsonl", folder=tmp_path)
    assert "warning: the model ./policy has changed since\n" in done.stderr
    assert (tmp_path / "again.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch.jsonl", "nosuch.jsonl: no such file"),
        ("in.jsonl", "in.jsonl: no in.jsonl.meta.json beside it tells what made it"),
        (".", ".: no run.meta.json beside it tells what made it"),
    ],
)
def test_what_erprm_did_not_make(name: str, message: str, made: Path) -> None:
    done = erprm("rerun", name, "-o", "again.jsonl", folder=made)
    assert (done.returncode, done.stderr) == (1, f"erprm: {message}\n")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (None, "does not tell the command of its run"),
        ("rm -rf x", "does not tell the command of its run"),
        ("erprm", "does not tell the command of its run"),
        ("erprm label 'in", "does not tell the command of its run"),
        ("erprm sample --api-key ...", "the command held a secret, which was not recorded; type it again"),
        ("erprm sample --api-key=...", "the command held a secret, which was not recorded; type it again"),
    ],
)
def test_a_command_that_cannot_be_repeated(command: object, message: str, made: Path) -> None:
    change(made, command=command)
    done = erprm("rerun", "out.jsonl", folder=made)
    assert (done.returncode, done.stderr) == (1, f"erprm: out.jsonl.meta.json: {message}\n")


def test_a_pipe_needs_its_input_again(made: Path) -> None:
    text = (made / "in.jsonl").read_text()
    assert erprm("label", "-q", "-o", "piped.jsonl", folder=made, stdin=text).returncode == 0
    assert erprm("rerun", "piped.jsonl", "-o", "again.jsonl", folder=made, stdin=text).returncode == 0
    assert (made / "again.jsonl").read_bytes() == (made / "piped.jsonl").read_bytes()
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "erprm_cli", "rerun", "piped.jsonl"],
            cwd=made,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1
    assert "the run read a pipe; give its input again, or run the whole pipe" in done.stderr


def test_the_hash_of_a_large_input_reads_a_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(2 * SAMPLES * BLOCK_BYTES))
    before = sampled_hash(path)
    for offset in (0, path.stat().st_size - 1):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"x")
        assert sampled_hash(path) != before
        before = sampled_hash(path)
    with path.open("ab") as file:
        file.write(b"\0")
    assert sampled_hash(path) != before
