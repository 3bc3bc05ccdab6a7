"""What every command owes beside help: closed pipes, full disks, two writers, engines that fail, any row."""

import json
import multiprocessing
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from erprm_cli import app
from erprm_cli.app import make_app
from erprm_cli.engines.base import Completion, Request, SamplingParams
from erprm_cli.errors import EngineError
from erprm_cli.io.run_directory import run_directory
from erprm_cli.io.writing import open_output
from erprm_cli.training.run_folder import locked_run
from tests.tiny_models import save_model, solution_rows
from tests.torture import rows
from tests.torture.program import ScriptedEngine

Run = Callable[..., Any]
ERPRM = [sys.executable, "-m", "erprm_cli"]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program's engine be the scripted one."""
    monkeypatch.setattr("erprm_cli.engines.open.open_engine", lambda *_: ScriptedEngine(pause_s=0.0))


def erprm(*args: object, stdin: str | bytes = "") -> Any:
    return CliRunner().invoke(make_app(), [str(arg) for arg in args], input=stdin)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a small random model, policy and reward model alike."""
    return str(save_model(tmp_path_factory.mktemp("model")))


def words(command: str, model: str) -> list[str]:
    """What `command` needs beside its input."""
    return [model if word == "MODEL" else word for word in WORDS.get(command, ())]


# Any row

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
GOOD = {
    "label": rows.rollouts(1, k=2),
    "grade": rows.solution(1),
    "bon": rows.scores(1),
    "sample": rows.problem(1),
    "rollout": rows.solution(1),
    "score": solution_rows(3)[2],
    "search": rows.problem(1),
}
LABELLED = next(row for row in solution_rows(9, labels=True) if len(set(row["labels"])) > 1)
# Those that make a folder and write log rows to stdout.
FOLDERS = {"train": LABELLED, "rlhf": rows.problem(1)}
RATES = ("--lr", "1e-3", "--batch-size", "2")
WORDS = {
    "sample": ("-n", "1"),
    "rollout": ("-k", "1"),
    "score": ("--prm", "MODEL", "--prm-format", "er-prm"),
    # By whole solutions: the scripted engine has no token ids.
    "search": ("--method", "best-of-n", "-n", "1", "--prm", "MODEL", "--prm-format", "er-prm"),
    "train": ("--base", "MODEL", "-o", "made", *RATES),
    "rlhf": (*("-m", "MODEL", "--prm", "MODEL", "--prm-format", "er-prm", "-o", "made"), *RATES)
    + ("-n", "1", "--iterations", "1", "--max-tokens", "8"),
}


@st.composite
def changed(draw: st.DrawFn, good: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return some fields of any content, and the lines of a good row with them between two good ones."""
    changes = draw(st.dictionaries(st.sampled_from(list(good)), JSON, min_size=1, max_size=3))
    three = (good | {"id": "first"}, good | changes, good | {"id": "last"})
    return changes, "".join(json.dumps(row) + "\n" for row in three)


def assert_used_or_refused(done: Any, bad: int) -> None:
    raised = type(done.exception).__name__
    assert raised in ("NoneType", "SystemExit") or (bad and raised == "UserError"), done.exception


@pytest.mark.parametrize("command", GOOD)
@settings(deadline=None, max_examples=40, derandomize=True)
@given(data=st.data())
@pytest.mark.slow
def test_any_row_is_used_or_refused(command: str, model: str, data: st.DataObject) -> None:
    """A good row with some fields of any content, between two good ones, of which none is lost."""
    changes, lines = data.draw(changed(GOOD[command]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("erprm_cli.engines.open.open_engine", lambda *_: ScriptedEngine(pause_s=0.0))
        with TemporaryDirectory() as folder:
            patch.chdir(folder)
            Path("in.jsonl").write_text(lines)
            given = ("-q", "--errors", "bad.jsonl", "-o", "out.jsonl", *words(command, model))
            done = erprm(command, "in.jsonl", *given)
            ours = [json.loads(line) for line in Path("out.jsonl").read_bytes().splitlines()]
            bad = Path("bad.jsonl").read_bytes().count(b"\n")
    assert_used_or_refused(done, bad)
    ids = [row["id"] for row in ours]
    assert "first" in ids and "last" in ids
    assert len(ours) + bad == 3 or changes.get("id") in ("first", "last")


@pytest.mark.parametrize("command", FOLDERS)
@settings(deadline=None, max_examples=12, derandomize=True)
@given(data=st.data())
@pytest.mark.slow
def test_any_row_is_trained_on_or_refused(command: str, model: str, data: st.DataObject) -> None:
    changes, lines = data.draw(changed(FOLDERS[command]))
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = erprm(command, "-q", "--errors", "bad.jsonl", *words(command, model), stdin=lines)
        bad = Path("bad.jsonl").read_bytes().count(b"\n")
        made = Path("made/erprm.json" if command == "train" else "made/iteration-1/policy").exists()
    assert_used_or_refused(done, bad)
    last = json.loads(done.stdout.splitlines()[-1])
    used = last["rows"] + last["left_out"] if command == "train" else last["problems"]
    assert made and (used + bad == 3 or changes.get("id") in ("first", "last"))


JUDGED = {"id": "a", "generator": "g", "problem": "p", "steps": ["x", "y"], "label": 1, "scores": [0.9, 0.1]}
READERS = {
    ("convert", "--to", "trl", "--threshold", "0.5"): rows.rollouts(1, k=2)
    | {"labels": [0.5] * len(rows.rollouts(1)["steps"])},
    ("convert", "--to", "er-prm"): LABELLED,
    ("bon",): rows.solution(1),
    ("show",): rows.scores(1) | {"rollouts": rows.rollouts(1, k=2)["rollouts"]},
    ("calibrate",): rows.scores(1) | {"rollouts": rows.rollouts(1, k=2)["rollouts"]},
    ("processbench",): JUDGED,
}


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
@settings(deadline=None, max_examples=40, derandomize=True)
@given(data=st.data())
def test_any_row_is_read_or_refused(command: tuple[str, ...], data: st.DataObject) -> None:
    _, lines = data.draw(changed(READERS[command]))
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = erprm(*command, "--errors", "bad.jsonl", stdin=lines)
        bad = Path("bad.jsonl").read_bytes().count(b"\n")
    assert_used_or_refused(done, bad)
    assert done.stdout


# Pipes and disks


SCRIPTED = "from tests.torture.program import *; opening.open_engine = scripted; app.main()"


@pytest.mark.parametrize("command", [*GOOD, *FOLDERS])
@pytest.mark.slow
def test_a_pipe_that_closes_is_quiet(command: str, model: str, tmp_path: Path) -> None:
    many = {"train": 60, "rlhf": 4}.get(command, 3_000)
    good = (GOOD | FOLDERS)[command]
    path = rows.write(tmp_path / "in.jsonl", [good | {"id": str(n)} for n in range(many)])
    given = shlex.join([command, str(path), "-q", *words(command, model)])
    done = subprocess.run(
        f"PYTHONPATH={Path.cwd()} {sys.executable} -c '{SCRIPTED}' {given} | head -1",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.stderr, len(done.stdout.splitlines())) == ("", 1)


@pytest.mark.parametrize("command", [*GOOD, *FOLDERS])
@pytest.mark.slow
def test_a_full_stdout_is_one_line(command: str, model: str, tmp_path: Path) -> None:
    done = subprocess.run(
        f"PYTHONPATH={Path.cwd()} {sys.executable} -c '{SCRIPTED}' "
        f"{shlex.join([command, '-q', *words(command, model)])} >/dev/full",
        shell=True,
        cwd=tmp_path,
        input=json.dumps((GOOD | FOLDERS)[command]),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "erprm: stdout: No space left on device\n")


@pytest.mark.parametrize("command", GOOD)
@pytest.mark.slow
def test_a_disk_that_is_full_is_one_line_and_leaves_whole_rows(
    command: str, model: str, tmp_path: Path
) -> None:
    """The limit on a file's size stands for the disk: the same errors come from the same calls."""
    path = rows.write(tmp_path / "in.jsonl", [GOOD[command] | {"id": str(n)} for n in range(300)])
    code = f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {SCRIPTED}"
    out = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", code, command, str(path), "-q", *words(command, model), "-o", str(out)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"erprm: {out}: File too large; ") and done.stderr.count("\n") == 1
    if command in ("label", "grade", "bon"):
        assert not out.exists()
    else:
        lines = out.read_bytes().splitlines(keepends=True)
        whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
        assert len(whole) >= len(lines) - 1 > 0


@pytest.mark.parametrize("command", GOOD)
@pytest.mark.parametrize("target", ["/dev/full", "{tmp}", "/proc/out.jsonl"])
def test_an_output_that_cannot_be_is_one_line(
    command: str, target: str, model: str, tmp_path: Path, scripted: None
) -> None:
    given = ("-q", "-o", target.replace("{tmp}", str(tmp_path)), *words(command, model))
    done = erprm(command, *given, stdin=json.dumps(GOOD[command]))
    assert type(done.exception).__name__ in ("UserError", "UsageError"), done.exception
    assert str(done.exception).removeprefix("-o ").startswith(target.replace("{tmp}", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", FOLDERS)
@pytest.mark.parametrize("target", ["/dev/full", "{tmp}/file", "{tmp}/file/folder", "/proc/folder"])
def test_a_folder_that_cannot_be_is_one_line(command: str, target: str, model: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    target = target.replace("{tmp}", str(tmp_path))
    given = ("-q", *words(command, model), "-o", target)
    done = erprm(command, *given, stdin=json.dumps(FOLDERS[command]))
    assert type(done.exception).__name__ in ("UserError", "UsageError"), done.exception
    assert os.path.dirname(target) in str(done.exception)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("command", GOOD)
def test_a_second_writer_is_refused(command: str, model: str, tmp_path: Path, scripted: None) -> None:
    path = tmp_path / "out.jsonl"
    given = ("-q", "--overwrite", "-o", path, *words(command, model))
    with open_output(str(path), {}):
        done = erprm(command, *given, stdin=json.dumps(GOOD[command]))
    assert "is writing to it" in str(done.exception)


def test_a_second_training_of_one_folder_is_refused(model: str, tmp_path: Path) -> None:
    given = ("train", "-q", "--overwrite", *words("train", model), "-o", tmp_path / "prm")
    with locked_run(tmp_path / "prm"):
        done = erprm(*given, stdin=json.dumps(FOLDERS["train"]))
    assert str(done.exception).removeprefix("-o ").startswith(f"{tmp_path}/prm: another run, ")
    assert list(tmp_path.iterdir()) == []
    assert erprm(*given, stdin=json.dumps(FOLDERS["train"])).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["prm"]


@pytest.mark.parametrize("save_steps", [0, 1])
@pytest.mark.slow
def test_a_disk_too_small_for_the_model_is_one_line(save_steps: int, model: str, tmp_path: Path) -> None:
    path = rows.write(tmp_path / "in.jsonl", [FOLDERS["train"]])
    code = (
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from erprm_cli.app import main; main()"
    )
    out = tmp_path / "prm"
    more = ["--epochs", "2", "--save-steps", str(save_steps), "-q"]
    done = subprocess.run(
        [sys.executable, "-c", code, "train", str(path), *words("train", model), *more, "-o", str(out)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    begin = f"erprm: {tmp_path}/.prm.run: cannot write a checkpoint: " if save_steps else f"erprm: {out}: "
    assert done.stderr.startswith(begin) and done.stderr.count("\n") == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_second_run_in_a_run_directory_is_refused(model: str, tmp_path: Path) -> None:
    given = ("-q", "--overwrite", *words("rlhf", model), "-o", tmp_path)
    with run_directory(tmp_path, {}):
        done = erprm("rlhf", *given, stdin=json.dumps(FOLDERS["rlhf"]))
    assert "is writing to it" in str(done.exception)


@pytest.mark.parametrize("command", ["sample", "rollout", "score"])
def test_an_input_that_is_reordered_and_extended_is_continued(
    command: str, model: str, tmp_path: Path, scripted: None
) -> None:
    good = [GOOD[command] | {"id": str(number)} for number in range(6)]
    given = ("-q", *words(command, model), *(("--batch-tokens", 1) if command == "score" else ()))
    source = rows.write(tmp_path / "in.jsonl", good[:3])
    assert erprm(command, source, *given, "-o", tmp_path / "out.jsonl").exit_code == 0
    kept = (tmp_path / "out.jsonl").read_bytes()
    rows.write(source, good[::-1])
    for name in ("out.jsonl", "whole.jsonl"):
        assert erprm(command, source, *given, "-o", tmp_path / name).exit_code == 0
    ours, whole = ((tmp_path / name).read_bytes() for name in ("out.jsonl", "whole.jsonl"))
    assert ours.startswith(kept)
    assert sorted(ours.splitlines()) == sorted(whole.splitlines())
    assert ours.count(b"\n") == 6


# Engines


class Failing(ScriptedEngine):
    """An engine that fails after 5 completions in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__(pause_s=0.0)
        self.how = how
        self.closed = False

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        for number, completion in enumerate(super().generate(requests, params)):
            if number < 5:
                yield completion
            elif self.how == "raises":
                raise EngineError("the engine broke")
            elif self.how == "empty":
                yield Completion(completion.key, completion.index, "", 0, "stop")
            elif self.how == "too few":
                return

    def close(self) -> None:
        self.closed = True


class Mortal(Failing):
    """An engine in a process of its own that is killed at the sixth completion.

    What is read from it then has an end, or what is written to it meets a broken pipe.
    """

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=self.serve, args=(ours, theirs))
        process.start()
        theirs.close()
        with ours:
            for number, completion in enumerate(super(Failing, self).generate(requests, params)):
                if number == 5 and self.how == "written":
                    process.kill()
                    process.join()
                ours.send(completion)
                yield ours.recv()

    def serve(self, ours: Connection, theirs: Connection) -> None:
        ours.close()
        for _ in range(5):
            theirs.send(theirs.recv())
        theirs.recv()
        os.kill(os.getpid(), signal.SIGKILL)


def broken_engine(how: str) -> Failing:
    return (Mortal if how in ("read", "written") else Failing)(how)


@pytest.mark.parametrize("how", ["raises", "too few", "empty", "read", "written"])
@pytest.mark.parametrize("command", ["sample", "rollout"])
def test_an_engine_that_fails_loses_nothing(
    command: str,
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make = rows.problem if command == "sample" else rows.solution
    source = rows.write(tmp_path / "in.jsonl", [make(number) for number in range(4)])
    engine = broken_engine(how)
    monkeypatch.setattr("erprm_cli.engines.open.open_engine", lambda *_: engine)
    monkeypatch.setattr(app, "catch_signals", lambda: None)  # pytest has its own way with them
    words = [command, str(source), "-q", "-o", str(tmp_path / "out.jsonl")]
    words += ["-n" if command == "sample" else "-k", "3"]
    monkeypatch.setattr("sys.argv", ["erprm", *words])
    with pytest.raises(SystemExit) as left:
        app.main()
    assert engine.closed
    if how == "empty":
        assert left.value.code in (0, None)
        return
    assert left.value.code == 4
    (told,) = capsys.readouterr().err.splitlines()
    assert told.endswith(f"; to continue: erprm {' '.join(words)}")
    kept = (tmp_path / "out.jsonl").read_bytes()
    assert command == "rollout" or kept.count(b"\n") == 5
    monkeypatch.setattr("erprm_cli.engines.open.open_engine", lambda *_: ScriptedEngine(pause_s=0.0))
    assert erprm(*words).exit_code == 0
    assert erprm(*words[:4], tmp_path / "whole.jsonl", *words[5:]).exit_code == 0
    assert (tmp_path / "out.jsonl").read_bytes().startswith(kept)
    ours, whole = (
        sorted((tmp_path / name).read_bytes().splitlines()) for name in ("out.jsonl", "whole.jsonl")
    )
    assert len(ours) == (12 if command == "sample" else 4)
    assert ours == whole


class Hostile(ScriptedEngine):
    """An engine whose every answer is a tower of powers."""

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        for one in super().generate(requests, params):
            yield Completion(one.key, one.index, f"The answer is: 9^{{9^{{9^{one.index}}}}}", 9, "stop")


@pytest.mark.parametrize("command", ["sample", "rollout"])
def test_answers_without_a_verdict_are_counted_and_listed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erprm_cli.engines.open.open_engine", lambda *_: Hostile(pause_s=0.0))
    size = "-n" if command == "sample" else "-k"
    done = erprm(command, size, 3, "--errors", tmp_path / "bad.jsonl", stdin=json.dumps(GOOD[command]))
    assert done.exit_code == 0, done.exception
    assert "3 answers without a verdict in time (graded 0)" in done.stderr
    row = json.loads(done.stdout.splitlines()[0])
    assert (row["reward"] if command == "sample" else sum(row["rollouts"][0])) == 0.0
    listed = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_bytes().splitlines()]
    assert {one["place"] for one in listed} == {"answers"}
    found = sorted(json.loads(one["line"])["prediction"] for one in listed)
    assert found == [f"9^{{9^{{9^{index}}}}}" for index in range(3)]


def test_a_journal_left_by_a_kill_at_the_very_end_goes(tmp_path: Path, scripted: None) -> None:
    source = rows.write(tmp_path / "in.jsonl", [rows.solution(number) for number in range(3)])
    path = tmp_path / "out.jsonl"
    assert erprm("rollout", source, "-q", "-k", 1, "-o", path).exit_code == 0
    meta = json.loads((tmp_path / "out.jsonl.meta.json").read_text())
    (tmp_path / "out.jsonl.journal").write_text("")
    (tmp_path / "out.jsonl.journal.meta.json").write_text(json.dumps(meta))
    assert erprm("rollout", source, "-q", "-k", 1, "-o", path).exit_code == 0
    assert sorted(os.listdir(tmp_path)) == ["in.jsonl", "out.jsonl", "out.jsonl.meta.json"]
