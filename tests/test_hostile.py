"""Hostile rows, folders and names against the program: nothing runs, nothing is shown raw, nothing leaks."""

import json
import os
import pickle
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from erprm_cli import jsonl
from erprm_cli.errors import UserError
from tests.tiny_models import save_model

Run = Callable[..., Any]

PAYLOAD = "\x1b[2J\x1b]0;owned\x07[bold red]x[/] \u202e\x9b31m\r[/b]"
SCORED = {
    "id": "a",
    "problem": "p",
    "answer": "5",
    "sample": 0,
    "solution": "x",
    "steps": ["x"],
    "prediction": "5",
    "reward": 1.0,
    "scores": [0.5],
    "prm": "m",
}


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


# The terminal


def on_terminal(*args: object, stdin: str) -> str:
    """Run the program with stderr on a pseudo-terminal; return what a person would be shown."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "erprm_cli", *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        process.communicate(stdin.encode())
    shown = b""
    try:
        while data := os.read(ours, 1 << 16):
            shown += data
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    return shown.decode()


def hostile_rows(field: str) -> str:
    """Return rows whose `field` (of any type) is a payload: twice the same, a bad one, and one cut short."""
    kind = type(SCORED[field])
    value: Any = [PAYLOAD] if kind is list else PAYLOAD
    row = SCORED | {field: value}
    if field in ("solution", "steps"):
        row |= {"solution": PAYLOAD, "steps": [PAYLOAD]}
    return "".join(json.dumps(row) + "\n" for row in (row, row, row | {"steps": []}, {PAYLOAD: 1}))


@pytest.mark.parametrize("field", SCORED)
def test_no_field_reaches_the_terminal_raw(field: str, tmp_path: Path) -> None:
    shown = on_terminal("bon", "--errors", tmp_path / "bad.jsonl", stdin=hostile_rows(field))
    shown += on_terminal("bon", stdin=hostile_rows(field))
    assert "erprm: " in shown
    assert "Traceback" not in shown
    rest = shown.replace("\r\x1b[K", "").replace("\r\n", "\n")  # our own progress line
    rest = rest.replace("\x1b[1m", "").replace("\x1b[0m", "")  # and bold headings of tables
    assert not {c for c in rest if not c.isprintable()} - {"\n"}


def test_rows_keep_their_text_exactly(shell: Run, tmp_path: Path) -> None:
    row = SCORED | {"solution": PAYLOAD, "steps": [PAYLOAD], "problem": PAYLOAD, "id": PAYLOAD, "x": PAYLOAD}
    done = shell("bon", "-q", stdin=json.dumps(row) + "\n")
    assert {name: json.loads(done.stdout)[name] for name in row} == row


# Models


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    from erprm_cli.models import load_causal_lm

    folder = save_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "ran")))
    with pytest.raises(UserError, match="pickled weights can run code"):
        load_causal_lm(str(folder), dtype="float32")  # type: ignore[arg-type]
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_read_where_they_are_allowed(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from erprm_cli.models import load_causal_lm

    folder = save_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    model = load_causal_lm(str(folder), dtype=torch.float32, allow_pickle=True)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights.items())


def test_code_beside_a_model_does_not_run(tmp_path: Path) -> None:
    from erprm_cli.models import load_causal_lm, load_tokenizer

    folder = save_model(tmp_path / "model")
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\nclass Custom: pass\n"
    (folder / "custom.py").write_text(code)
    for name, entries in (("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")):
        config = json.loads((folder / name).read_text())
        target: Any = ["custom.Custom", None] if entries == "AutoTokenizer" else "custom.Custom"
        config["auto_map"] = {entries: target, "AutoModelForCausalLM": "custom.Custom"}
        config["model_type" if entries == "AutoConfig" else "tokenizer_class"] = "Custom"
        (folder / name).write_text(json.dumps(config))
    for load in (load_tokenizer, lambda name: load_causal_lm(name, dtype="float32")):  # type: ignore[arg-type]
        with pytest.raises(UserError, match="cannot load the folder"):
            load(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{% if %}", "{{ raise_exception('no') }}"]
)
def test_a_chat_template_stays_in_the_sandbox(template: str, tmp_path: Path) -> None:
    from erprm_cli.policy_templates import policy_template
    from erprm_cli.prompts import render_prompt
    from tests.tiny_models import make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match="chat template of"):
        render_prompt(policy_template("math-chat"), tokenizer, "p")


# Names and secrets


@pytest.mark.parametrize("name", ["../../escape", "/etc/escape", "a/b", "..", "con\x00trol"])
def test_no_path_is_made_of_a_row(shell: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "work").mkdir()
    row = SCORED | {"id": name, "prm": name, "sampling": {"model": name}}
    path = tmp_path / "work" / "out.jsonl"
    done = shell("bon", "-q", "-o", path, stdin=json.dumps(row) + "\n")
    assert done.returncode == 0, done.stderr
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == ["work", "work/out.jsonl", "work/out.jsonl.meta.json"]


def test_no_secret_is_written_or_told(tmp_path: Path) -> None:
    secret = "hf_canaryCANARYcanary"
    environment = os.environ | {"HF_TOKEN": secret, "OPENAI_API_KEY": secret, "WANDB_API_KEY": secret}
    rows = json.dumps(SCORED) + "\n" + json.dumps(SCORED | {"steps": 3}) + "\n"
    command = [sys.executable, "-m", "erprm_cli", "bon", "-o", "out.jsonl", "--report", "r.jsonl"]
    done = subprocess.run(
        [*command, "--errors", "bad.jsonl"],
        input=rows,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    everything = done.stdout + done.stderr + "".join(path.read_text() for path in tmp_path.iterdir())
    assert "bad.jsonl" in everything and secret not in everything


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--api-key", "s3cret", "-q"], "erprm sample --api-key ... -q"),
        (["--api-key=s3cret", "-q"], "erprm sample --api-key=... -q"),
        (["--hf-token", "s3cret"], "erprm sample --hf-token ..."),
        (["--max-tokens", "5", "--overwrite"], "erprm sample --max-tokens 5"),
    ],
)
def test_the_command_is_told_without_secrets(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["erprm", "sample", *words])
    assert jsonl.command_line() == told
