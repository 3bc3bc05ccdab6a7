"""Flags from --config and from variables: what wins, what is refused, what is recorded."""

import json
import os
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.app import COMMANDS, make_app
from erprm_cli.presets import flag_name
from tests.torture import rows

LABELLED = {"id": "a", "rollouts": [[1.0, 0.0, 0.0, 0.0]]}
MEAN, MAXIMUM, ER_1 = [0.25], [1.0], [0.3574]  # the label at eta 0, inf and 1: log(1 + (e - 1) / 4)


def erprm(
    *words: object, folder: Path, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "erprm_cli", *map(str, words)]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, env=environment)


def label(folder: Path, *words: str, config: str | None = None, **variables: str) -> list[float]:
    """Return the labels of a row whose only prefix has one success in four rollouts."""
    if config is not None:
        (folder / "run.toml").write_text(config)
        words = ("--config", "run.toml", *words)
    done = erprm("label", "-q", *words, folder=folder, stdin=json.dumps(LABELLED), **variables)
    assert done.returncode == 0, done.stderr
    labels: list[float] = json.loads(done.stdout)["labels"]
    return [round(value, 4) for value in labels]


def test_the_command_line_wins_over_a_variable_and_a_variable_over_the_file(tmp_path: Path) -> None:
    assert label(tmp_path) == ER_1
    assert label(tmp_path, config="[label]\neta = 0\n") == MEAN
    assert label(tmp_path, config="[label]\neta = 0\n", ERPRM_LABEL_ETA="inf") == MAXIMUM
    assert label(tmp_path, "--eta", "1", config="[label]\neta = 0\n", ERPRM_LABEL_ETA="inf") == ER_1
    assert label(tmp_path, config="[score]\nprm = 'x'\n") == ER_1  # of another command


def test_infinities_choices_and_both_spellings_of_a_name(tmp_path: Path) -> None:
    assert label(tmp_path, config="[label]\neta = inf\n") == MAXIMUM
    assert label(tmp_path, config="[label]\nestimator = 'soft'\n") == MEAN
    assert label(tmp_path, config="[label]\nmax_errors = 3\nerrors = 'bad.jsonl'\n") == ER_1
    assert label(tmp_path, config="[label]\nmax-errors = 3\nerrors = 'bad.jsonl'\n") == ER_1


def test_switches_and_the_input(tmp_path: Path) -> None:
    source = rows.write(tmp_path / "in.jsonl", [LABELLED])
    config = f"[label]\ninput = '{source.name}'\noutput = 'out.jsonl'\nquiet = true\noverwrite = false\n"
    (tmp_path / "run.toml").write_text(config)
    assert erprm("label", "--config=run.toml", folder=tmp_path).stderr == ""
    assert json.loads((tmp_path / "out.jsonl").read_text())["id"] == "a"
    done = erprm("label", source, "-o", "b.jsonl", folder=tmp_path, ERPRM_LABEL_QUIET="yes")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_shipped_recipe_has_a_name(tmp_path: Path) -> None:
    assert label(tmp_path, "--config", "paper") == ER_1
    done = erprm("label", "--config", "papre", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown recipe 'papre'; known names: " in done.stderr and "or a .toml file" in done.stderr


def test_what_is_recorded_needs_neither_the_file_nor_the_variables(tmp_path: Path) -> None:
    rows.write(tmp_path / "in.jsonl", [LABELLED])
    (tmp_path / "run.toml").write_text(
        "[label]\ninput = 'in.jsonl'\noutput = 'out.jsonl'\nestimator = 'hard'\n"
    )
    erprm("label", "--config", "run.toml", "-q", folder=tmp_path, ERPRM_LABEL_LIMIT="2")
    (run,) = json.loads((tmp_path / "out.jsonl.meta.json").read_text())["runs"]
    words = "erprm label in.jsonl --output=out.jsonl --estimator=hard --limit=2 -q"
    assert run["command"] == words


def test_a_flag_that_is_repeated_and_an_input_of_several_files_are_lists(tmp_path: Path) -> None:
    row = {"id": "a", "problem": "p", "steps": ["x"], "label": -1, "scores": [0.9]}
    for name in ("a.jsonl", "b c.jsonl"):
        rows.write(tmp_path / name, [row])
    (tmp_path / "run.toml").write_text("[processbench]\ninput = ['a.jsonl', 'b c.jsonl']\n")
    by_file = erprm("processbench", "--config", "run.toml", folder=tmp_path)
    variable = {"ERPRM_PROCESSBENCH_INPUT": "a.jsonl 'b c.jsonl'"}
    assert by_file.stdout == erprm("processbench", folder=tmp_path, **variable).stdout
    splits = [json.loads(line)["split"] for line in by_file.stdout.splitlines()]
    assert splits == ["a", "b c", "average"]


# The beginning of the message; Typer says what a value must be.
REFUSED = {
    "[label]\netta = 2\n": "run.toml: [label] etta: unknown flag 'etta'; did you mean eta?",
    "[label]\nzzz = 2\n": "run.toml: [label] zzz: unknown flag 'zzz'; known are ",
    "[labels]\neta = 2\n": "run.toml: [labels]: unknown command 'labels'; did you mean label?",
    "eta = 2\n": "run.toml: 'eta' stands outside a table; put it below [label]",
    "[label]\neta = 'x'\n": "run.toml: [label] eta: ",
    "[label]\neta = true\n": "run.toml: [label] eta: must be a number or a text, not True",
    "[label]\neta = [1, 2]\n": "run.toml: [label] eta: must be a number or a text, not [1, 2]",
    "[label]\nquiet = 1\n": "run.toml: [label] quiet: must be true or false, not 1",
    "[label]\nmax-errors = -1\n": "run.toml: [label] max-errors: ",
    "[label]\nestimator = 'sofd'\n": "run.toml: [label] estimator: ",
    "[label]\nconfig = 'run.toml'\n": "run.toml: [label] config: unknown flag 'config'",
    "[label\n": "run.toml: ",
}


@pytest.mark.parametrize("config", REFUSED)
def test_what_a_file_may_not_hold(config: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(config)
    done = erprm("label", "--config", "run.toml", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"erprm: {REFUSED[config]}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ERPRM_LABEL_ETTA", "1", "unknown flag 'etta'; did you mean eta?"),
        ("ERPRM_LABEL_ETA", "much", ""),
        ("ERPRM_LABEL_QUIET", "perhaps", "must be true or false, not 'perhaps'"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, message: str, tmp_path: Path) -> None:
    done = erprm("label", folder=tmp_path, **{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"erprm: {name}: {message}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = erprm("label", "--config", "none.toml", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "erprm: none.toml: No such file or directory\n")


def test_help_does_not_read_presets(tmp_path: Path) -> None:
    done = erprm("label", "--config", "none.toml", "--help", folder=tmp_path, ERPRM_LABEL_ETTA="1")
    assert done.returncode == 0
    assert "[label] of a .toml file" in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_has_one_name(name: str) -> None:
    import typer

    group: Any = typer.main.get_command(make_app())
    names = [flag_name(parameter) for parameter in group.commands[name].params]
    assert len(names) == len(set(names))
    assert all(set(one) <= set(string.ascii_lowercase + string.digits + "-") for one in names)
