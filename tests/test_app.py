"""What every command owes: help, light start, empty input, errors in one line, exit statuses, quiet pipes."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.app import COMMANDS, how_to_continue
from erprm_cli.errors import UsageError
from erprm_cli.io.ownership import NamedFile
from erprm_cli.options import Heading
from erprm_cli.roles import Role

Run = Callable[..., Any]

# What `--help` may not load: it takes longer than all the rest together.
HEAVY = {"torch", "vllm", "transformers", "datasets", "accelerate", "peft", "safetensors", "pyarrow"}
HEAVY |= {"rich", "numpy", "matplotlib", "math_verify", "sympy", "msgspec", "httpx2"}
HEAVY |= {"asyncio", "multiprocessing", "fastapi", "pydantic", "uvicorn", "prometheus_client"}
SOLUTION = {
    "id": "a",
    "problem": "Tom has 2 coins.",
    "answer": "5",
    "sample": 0,
    "solution": "x",
    "steps": ["x"],
    "reward": 1.0,
    "prediction": "5",
}
# A command, what it needs besides its input, and a row that lacks a field, with the field.
CASES: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "sample": (["-n", "1"], {"answer": "5"}, "problem"),
    "rollout": ([], SOLUTION | {"answer": None}, "answer"),
    "label": ([], {"id": "a"}, "rollouts"),
    "train": (["-o", "{tmp}/prm"], SOLUTION, "labels"),
    "doctor": ([], {}, ""),
    "rerun": (["{tmp}/out.jsonl"], {}, ""),
    "export": (["tiny", "-o", "{tmp}/head"], {}, ""),
    "serve": (["--prm", "tiny"], {}, ""),
    "score": (["--prm", "tiny"], {"id": "a", "problem": "p", "sample": 0}, "solution"),
    "inspect": (["prm", "tiny"], {"id": "a", "problem": "p", "sample": 0}, "solution"),
    "grade": ([], {"id": "a", "problem": "p", "answer": "5"}, "solution"),
    "bon": ([], {"id": "a", "problem": "p", "sample": 0}, "solution"),
    "search": (["--prm", "tiny", "--prm-format", "er-prm"], {"answer": "5"}, "problem"),
    "processbench": ([], {"id": "a", "problem": "p", "steps": ["x"], "label": -1}, "scores"),
    "calibrate": ([], SOLUTION | {"rollouts": [[1.0]]}, "scores"),
    "show": ([], {"id": "a"}, "problem"),
    "rlhf": (["--prm", "tiny", "--prm-format", "er-prm", "-o", "{tmp}/raft"], {"answer": "5"}, "problem"),
    "convert": (["--to", "trl"], SOLUTION, "labels"),
}

FILTERS = tuple(
    name for name in COMMANDS if name not in ("export", "rerun", "doctor", "serve")
)  # those that read rows


def arguments(command: str, tmp_path: Path) -> list[str]:
    return [command, *(word.replace("{tmp}", str(tmp_path)) for word in CASES[command][0])]


def test_the_cases_cover_every_command() -> None:
    assert set(CASES) == set(COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from erprm_cli.app import make_app; make_app(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("words", ["help", "-h", "--help"])
def test_the_list_of_commands_is_the_same_without_their_modules(erprm: Run, shell: Run, words: str) -> None:
    done = shell(words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == erprm(words).stdout.splitlines()[1:]  # after the name as called


def test_the_list_of_commands_loads_none_of_them() -> None:
    code = "import atexit, sys; sys.argv[1:] = ['--help']; atexit.register(lambda: print(*sys.modules)); "
    done = subprocess.run(
        [sys.executable, "-c", code + "from erprm_cli.app import main; main()"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "erprm_cli.app " in done.stdout and "erprm_cli.commands." not in done.stdout


def first_and_last_line(help_text: str) -> tuple[str, str]:
    """Return the first and the last paragraph of the description, each as one line."""
    description = re.split(r"\n\n(?:Input and output|Options|Model):\n", help_text.partition("\n\n")[2])[0]
    paragraphs = [" ".join(paragraph.split()) for paragraph in description.split("\n\n")]
    return paragraphs[0], paragraphs[-1]


def sections(help_text: str) -> dict[str, list[str]]:
    """Return the lines of a help text under each heading."""
    parts = re.split(r"^(\S.*):$", help_text, flags=re.MULTILINE)
    return {
        title: text.strip("\n").splitlines() for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(erprm: Run, command: str) -> None:
    done = erprm(command, "--help")
    assert done.exit_code == 0
    summary, example = first_and_last_line(done.stdout)
    assert len(summary) < 60 and summary.endswith(".")
    assert example.startswith("Example: ") and f"erprm {command} " in f"{example} "
    assert ("- is stdin" in " ".join(done.stdout.split())) == (command in FILTERS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_uses_flags_that_exist(erprm: Run, command: str) -> None:
    _, example = first_and_last_line(erprm(command, "--help").stdout)
    example = example.removeprefix("Example: ")
    for part in example.split("|"):
        name, *words = part.split(">")[0].split()[1:]
        known = erprm(name, "--help").stdout
        assert all(word in known for word in words if word.startswith("-") and word != "-")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_flags_under_headings_the_most_needed_first(erprm: Run, command: str) -> None:
    found = sections(erprm(command, "--help").stdout)
    known = [heading.value for heading in Heading]
    assert list(found) == [title for title in known if title in found]
    assert list(found)[0] == "Input and output" or command in ("doctor", "serve")
    assert found["Other"][-1].split()[:2] == ["-h,", "--help"]
    flags = {line.split()[0] for line in found.get("Rows", ())}
    assert {"-L,", "--errors"} <= flags or command in ("export", "inspect", "rerun", "doctor", "serve")


@pytest.mark.parametrize("command", COMMANDS)
def test_metavars_and_defaults_are_readable(erprm: Run, command: str) -> None:
    text = erprm(command, "--help").stdout
    assert re.findall(r"<(?:str|int|float|path|directory)\b[^>]*>", text) == []
    assert re.findall(r"default:\s+\([^)]*\)", text) == []  # a phrase, which belongs in the sentence


def test_help_is_quick(shell: Run) -> None:
    """The goal is 0.25 s of processor time; the limit here leaves room for a busy machine."""

    def used() -> float:
        times = os.times()
        return times.children_user + times.children_system

    for command in COMMANDS:
        seconds = []
        for _ in range(3):
            begin = used()
            assert shell(command, "--help").returncode == 0
            seconds.append(used() - begin)
        assert min(seconds) < 0.5, command


@pytest.mark.parametrize("command", [name for name in FILTERS if name != "train"])
def test_empty_input_gives_empty_output(erprm: Run, command: str, tmp_path: Path) -> None:
    done = erprm(*arguments(command, tmp_path), stdin="")
    assert (done.exit_code, done.stdout) == (0, "")


@pytest.mark.slow
def test_training_on_nothing_is_an_error(shell: Run, tmp_path: Path) -> None:
    done = shell(*arguments("train", tmp_path), stdin="")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing to train on" in done.stderr


@pytest.mark.parametrize("command", FILTERS)
@pytest.mark.slow
def test_a_broken_line_is_named(shell: Run, command: str, tmp_path: Path) -> None:
    done = shell(*arguments(command, tmp_path), stdin='\n{"id": "a", "pro\n')
    assert (done.returncode, done.stdout) == (1, "")
    *notes, line = done.stderr.splitlines()
    assert line.startswith("erprm: stdin:2: not JSON") and "--errors" in line
    assert all(": template " in note for note in notes)


@pytest.mark.parametrize("command", FILTERS)
@pytest.mark.slow
def test_a_missing_field_is_named(shell: Run, command: str, tmp_path: Path) -> None:
    _, row, field = CASES[command]
    done = shell(*arguments(command, tmp_path), stdin=json.dumps(row) + "\n")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = errors(done.stderr)
    assert line.startswith("erprm: stdin:1: ")
    assert field in line


def errors(stderr: str) -> list[str]:
    """Return the lines of a command that say what is wrong, not those that say what it uses."""
    return [line for line in stderr.splitlines() if " template tiny (made for" not in line]


@pytest.mark.parametrize("command", FILTERS)
@pytest.mark.slow
def test_a_missing_file_is_named(shell: Run, command: str, tmp_path: Path) -> None:
    done = shell(*arguments(command, tmp_path), "absent.jsonl")
    assert done.returncode == 1
    assert errors(done.stderr) == ["erprm: absent.jsonl: No such file or directory"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_flag_is_wrong_usage(shell: Run, command: str) -> None:
    done = shell(command, "--no-such-flag")
    assert done.returncode == 2
    assert "--no-such-flag" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_template_lists_the_known_ones(shell: Run) -> None:
    done = shell("sample", "--template", "nonsense", "tiny:test")
    assert done.returncode == 2
    assert "gpt-oss, gsm8k, gsm8k-chat, math, math-chat, metamath, qwen3, " in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_its_status_and_a_line(number: int) -> None:
    command = [sys.executable, "-m", "erprm_cli", "label", "-q"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write('{"rollouts": [[1.0]]}\n')
        process.stdin.flush()
        assert "labels" in process.stdout.readline()  # it is at work
        process.send_signal(number)
        assert process.wait(timeout=20) == 128 + number
        assert process.stderr.read() == "erprm: stopped; with -o, the same command again continues\n"


def test_a_stop_in_a_pipe_names_no_command_that_would_wait_for_the_terminal(tmp_path: Path) -> None:
    from_pipe = NamedFile("the input", Role.READ, "-")
    output = NamedFile("-o", Role.ROWS, "out.jsonl")
    assert how_to_continue([from_pipe], None) == "with -o, the same command again continues"
    assert how_to_continue([from_pipe, output], None) == "to continue, run the whole pipe again"
    kept = "to continue, run the whole pipe again; out.jsonl keeps the rows so far"
    assert how_to_continue([from_pipe, output], "out.jsonl") == kept


@pytest.mark.parametrize(
    ("command", "flag", "value", "told"),
    [
        ("sample", "--temperature", "nan", "--temperature nan is not a finite number"),
        ("sample", "--top-p", "nan", "--top-p nan is not a finite number"),
        ("train", "--lr", "inf", "--lr inf is not a finite number"),
        ("train", "--epochs", "nan", "--epochs nan is not a finite number"),
        ("convert", "--threshold", "nan", "--threshold nan is not a finite number"),
        ("rollout", "--k", "9" * 30, "is beyond 64 bits"),
        ("label", "--limit", "9" * 30, "is beyond 64 bits"),
    ],
)
def test_numbers_that_no_flag_means_are_refused(
    erprm: Run, tmp_path: Path, command: str, flag: str, value: str, told: str
) -> None:
    done = erprm(*arguments(command, tmp_path), flag, value)
    assert isinstance(done.exception, UsageError) and told in str(done.exception)


@pytest.mark.parametrize(
    ("command", "flag", "value"),
    [("train", "--epochs", "0"), ("train", "--seed", "-1"), ("sample", "--seed", str(2**32))],
)
def test_numbers_out_of_bounds_are_refused(
    erprm: Run, tmp_path: Path, command: str, flag: str, value: str
) -> None:
    done = erprm(*arguments(command, tmp_path), flag, value)
    assert done.exit_code == 2 and "is not in the range" in done.output


def test_a_file_of_another_command_is_named_as_such(shell: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    row = json.dumps(SOLUTION | {"rollouts": [[1.0]]})
    assert shell("label", "-o", out, stdin=row).returncode == 0
    done = shell("grade", "-o", out, stdin=row)
    assert done.returncode == 1
    assert done.stderr.startswith(f"erprm: {out} was made by `erprm label`; --overwrite starts again")


def test_a_closed_pipe_is_quiet() -> None:
    line = '{"rollouts": [[0.0, 1.0], [1.0]]}'
    command = f"yes '{line}' | head -200000 | {sys.executable} -m erprm_cli label -q | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_templates_are_installed() -> None:
    shipped = files("erprm_cli.templates")
    assert shipped.joinpath("tiny", "model.safetensors").is_file()
    assert shipped.joinpath("policy", "tiny.toml").is_file()


@pytest.mark.parametrize("command", ["bon", "rlhf"])
def test_help_lists_the_engines_that_a_command_takes(erprm: Run, command: str) -> None:
    text = " ".join(erprm(command, "--help").stdout.split())
    choices = re.search(r"--engine [<\[]([a-z|]+)[>\]]", text)
    assert choices is not None and choices[1] == "auto|transformers|vllm"
    assert "server with --base-url" not in text
    assert erprm(command, "--engine", "server").exit_code == 2
