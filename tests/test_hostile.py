"""Hostile rows, folders and names: no code runs, nothing is printed raw, no secret leaks."""

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

from erprm_cli.errors import UserError
from erprm_cli.io import provenance
from tests.scripted_server import Reply, completed, serving
from tests.tiny_models import save_model, solution_rows

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
    """Run the program with stderr on a pseudo-terminal; return what it prints there."""
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


def plain_lines(shown: str) -> str:
    """Return what was printed without the progress line and the bold headings of tables."""
    for ours in ("\r\x1b[K", "\x1b[1m", "\x1b[0m"):
        shown = shown.replace(ours, "")
    return shown.replace("\r\n", "\n")


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
    assert not {c for c in plain_lines(shown) if not c.isprintable()} - {"\n"}


@pytest.mark.parametrize(
    "command",
    [
        ["label"],
        ["convert", "--to", "trl", "--threshold", "0.5"],
        ["convert", "--to", "er-prm"],
        ["grade"],
        ["calibrate"],
        ["processbench"],
        ["show"],
    ],
    ids=" ".join,
)
def test_no_command_shows_a_field_raw(command: list[str], tmp_path: Path) -> None:
    """Each field in turn contains a payload, of the right type and of a wrong one."""
    good = SCORED | {"rollouts": [[1.0]], "labels": [0.5], "label": 0, "generator": "g", "eta": 2.0}
    values: list[tuple[str, Any]] = [(name, PAYLOAD) for name in good]
    values += [(name, [PAYLOAD]) for name in good] + [(name, {PAYLOAD: 1}) for name in good]
    rows = [good, *(good | {name: value} for name, value in values), {PAYLOAD: 1}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    shown = on_terminal(*command, "--errors", tmp_path / "bad.jsonl", stdin=lines)
    shown += on_terminal(*command, stdin=json.dumps(good | {"steps": {PAYLOAD: 1}, "problem": PAYLOAD}))
    assert "erprm: " in shown
    assert "Traceback" not in shown
    assert not {c for c in plain_lines(shown) if not c.isprintable()} - {"\n"}


def test_rows_keep_their_text_exactly(shell: Run, tmp_path: Path) -> None:
    row = SCORED | {"solution": PAYLOAD, "steps": [PAYLOAD], "problem": PAYLOAD, "id": PAYLOAD, "x": PAYLOAD}
    done = shell("bon", "-q", stdin=json.dumps(row) + "\n")
    assert {name: json.loads(done.stdout)[name] for name in row} == row


# Models


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    from erprm_cli.models.loading import load_causal_lm

    folder = save_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "ran")))
    with pytest.raises(UserError, match="pickled weights can run code"):
        load_causal_lm(str(folder), dtype="float32")  # type: ignore[arg-type]
    assert not (tmp_path / "ran").exists()


def test_pickled_adapters_are_not_read(erprm: Run, tmp_path: Path) -> None:
    base, folder = save_model(tmp_path / "base"), save_model(tmp_path / "adapters")
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "target_modules": ["q_proj"]}
    config["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "ran")))
    prm = ("--prm-format", "er-prm")
    row = json.dumps(solution_rows(1)[0])
    for words in (
        ("export", folder, *prm, "--kind", "token", "-o", tmp_path / "whole"),
        ("score", "--prm", folder, *prm),
        ("sample", "-m", folder, "-n", 1),
    ):
        done = erprm(*words, stdin=row)
        assert isinstance(done.exception, UserError), (words, done.exception)
        assert "pickled" in str(done.exception)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "whole").exists()


def test_pickled_weights_are_read_where_they_are_allowed(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from erprm_cli.models.loading import load_causal_lm

    folder = save_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    model = load_causal_lm(str(folder), dtype=torch.float32, allow_pickle=True)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights.items())


def test_code_beside_a_model_does_not_run(tmp_path: Path) -> None:
    from erprm_cli.models.loading import load_causal_lm, load_tokenizer

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
    from erprm_cli.policy.prompts import render_prompt
    from erprm_cli.policy.templates import load_template
    from tests.tiny_models import make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match="chat template of"):
        render_prompt(load_template("math-chat"), tokenizer, "p")


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


CANARY = "canaryCANARYcanary"
SECRETS = {
    "ERPRM_API_KEY": f"sk-{CANARY}-1",
    "OPENAI_API_KEY": f"sk-{CANARY}-2",
    "HF_TOKEN": f"hf_{CANARY}3",
    "WANDB_API_KEY": f"{CANARY}4",
}


def assert_no_secret(folder: Path, told: str) -> list[str]:
    """Check for secrets in the printed text and in all files below `folder`; return the files' names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert CANARY not in told
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    return [path.name for path in files]


def with_secrets(folder: Path, *words: object, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program in `folder` with secrets in its environment; `code` runs before it."""
    program = f"{code}\nfrom erprm_cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=folder,
        env=os.environ | SECRETS | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_no_command_writes_or_prints_a_secret(
    erprm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain from problems to a better policy, with a bad row in most inputs."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.chdir(tmp_path)
    model = save_model(tmp_path / "model")
    bad = '{"id": 3}\n'
    (tmp_path / "problems.jsonl").write_text('{"problem": "Tom has 2 apples?", "answer": "1"}\n' + bad)
    labels = [
        row | {"rollouts": [[1.0, 0.0]] * (len(row["steps"]) - 1) + [[1.0]]} for row in solution_rows(9)
    ]
    rolled = "".join(json.dumps(row | {"reward": 1.0, "prediction": "1"}) + "\n" for row in labels) + bad
    (tmp_path / "rolled.jsonl").write_text(rolled)
    judged = {"id": "a", "problem": "p", "steps": ["x", "y"], "label": 1, "scores": [0.9, 0.1]}
    small = ("-m", model, "--max-tokens", 8)
    prm = ("--prm", model, "--prm-format", "er-prm")
    commands: list[tuple[object, ...]] = [
        ("sample", "problems.jsonl", *small, "-n", 2, "-o", "samples.jsonl"),
        ("rollout", "rolled.jsonl", *small, "-k", 1, "-L", 2, "--keep-text", "-o", "rollouts.jsonl"),
        ("label", "rolled.jsonl", "-o", "labels.jsonl"),
        ("convert", "labels.jsonl", "--to", "er-prm", "-o", "foreign.jsonl"),
        ("train", "labels.jsonl", "--base", model, "--lr", 1e-3, "-o", "prm"),
        ("score", "labels.jsonl", *prm, "-o", "scores.jsonl"),
        ("bon", "scores.jsonl", "-o", "chosen.jsonl", "--report", "report.jsonl"),
        ("calibrate", "scores.jsonl", "-o", "calibration.jsonl"),
        ("processbench", "-o", "judged.jsonl"),
        ("rlhf", "problems.jsonl", *small, *prm, "-n", 1, "--iterations", 1, "--lr", 1e-3, "-o", "raft"),
        ("export", "prm", "-o", "head"),
    ]
    told = ""
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["erprm", *map(str, command)])
        errors = () if command[0] == "export" else ("--errors", f"bad-{command[0]}.jsonl")
        done = erprm(*command, *errors, stdin=json.dumps(judged))
        assert done.exception is None or "bad row" in str(done.exception), (command, done.exception)
        told += done.stdout + done.stderr
    names = assert_no_secret(tmp_path, told)
    assert len([name for name in names if name.endswith(".meta.json")]) >= 13
    assert names.count("erprm.json") >= 3 and names.count("README.md") >= 3
    assert len([name for name in names if name.startswith("bad-")]) == len(commands) - 1


@pytest.mark.parametrize("command", ["sample", "rollout"])
@pytest.mark.slow
def test_the_key_of_a_server_is_never_written_or_printed(command: str, tmp_path: Path) -> None:
    """Even if the server refuses the key and repeats it, by name, in headers and in JSON."""
    key = SECRETS["ERPRM_API_KEY"]
    row = SCORED | {"solution": "x\ny", "steps": ["x", "y"]}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + '\n{"id": 3}\n')
    words = [command, "in.jsonl", "-m", "m", "-t", "tiny", "--errors", "bad.jsonl", "-o", "out.jsonl"]
    with serving(lambda _, fields: completed(fields)) as server:
        done = with_secrets(tmp_path, *words, "--base-url", server.url)
        assert done.returncode == 1 and "1 bad row" in done.stderr, done.stderr
        assert server.headers[-1]["authorization"] == f"Bearer {key}"
        assert_no_secret(tmp_path, done.stdout + done.stderr)
        body = {"error": {"message": f"no such key: {key}", "seen": [{"authorization": f"Bearer {key}"}]}}
        server.say = lambda *_: Reply(body, 401, {"X-Key": key})
        done = with_secrets(tmp_path, *words, "--base-url", server.url, "--overwrite")
        assert done.returncode == 1 and "no such key: ***" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        names = assert_no_secret(tmp_path, done.stdout + done.stderr)
    assert {"out.jsonl", "out.jsonl.meta.json", "bad.jsonl"} <= set(names)


@pytest.mark.slow
def test_no_secret_is_in_a_traceback(tmp_path: Path) -> None:
    """A bug during a request, with the client and its headers among the variables of every frame."""
    code = (
        "from erprm_cli.engines import server_engine\n"
        "def broken(*_): raise RuntimeError('a bug')\n"
        "server_engine.ServerEngine._completion = broken"
    )
    with serving(lambda _, fields: completed(fields)) as server:
        words = ("sample", "tiny:test", "-L", 1, "-m", "m", "--base-url", server.url, "-o", "out.jsonl")
        done = with_secrets(tmp_path, *words, code=code)
    assert done.returncode == 1 and "Traceback" in done.stderr and "a bug" in done.stderr
    assert_no_secret(tmp_path, done.stdout + done.stderr)


@pytest.mark.parametrize(
    "words",
    [
        ["--engine-arg", f"hf_token={CANARY}"],
        ["--engine-arg", f"api-key={CANARY}"],
        ["--base-url", f"http://user:{CANARY}@localhost:1"],
        ["--base-url", f"http://localhost:1/v1?key={CANARY}"],
    ],
)
def test_a_secret_on_the_command_line_is_refused_before_anything_is_written(
    words: list[str], shell: Run, tmp_path: Path
) -> None:
    done = shell("sample", "tiny:test", *words, "-o", tmp_path / "out.jsonl")
    assert done.returncode == 2 and done.stderr.startswith("erprm: --")
    assert assert_no_secret(tmp_path, done.stdout + done.stderr) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--api-key", "s3cret", "-q"], "erprm sample --api-key ... -q"),
        (["--api-key=s3cret", "-q"], "erprm sample --api-key=... -q"),
        (["--hf-token", "s3cret"], "erprm sample --hf-token ..."),
        (["--max-tokens", "5", "--overwrite"], "erprm sample --max-tokens 5"),
    ],
)
def test_the_recorded_command_has_no_secrets(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["erprm", "sample", *words])
    assert provenance.command_line() == told
