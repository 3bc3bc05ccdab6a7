"""erprm show: text in a pipe, colours and a pager on a terminal, a page with --html."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from erprm_cli.errors import UsageError

Erprm = Callable[..., Result]

ROW = {"id": "a", "problem": "How many?", "sample": 0, "solution": "x = 2", "steps": ["x = 2"]}
SCORED = ROW | {"answer": "2", "scores": [0.25], "reward": 1.0, "prediction": "2"}


def on_terminal(source: Path, **environment: str) -> str:
    """Run `erprm show` on a terminal of its own and return what it shows."""
    screen, terminal = pty.openpty()
    settings: dict[str, Any] = os.environ | {"TERM": "xterm", "PAGER": "cat"} | environment
    settings = {name: value for name, value in settings.items() if value}
    command = [sys.executable, "-m", "erprm_cli", "show", str(source)]
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=settings) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                part = os.read(screen, 4096)
            except OSError:  # Linux says so when the other side is closed
                break
            if not part:
                break
            shown += part
    os.close(screen)
    assert process.returncode == 0
    return shown.decode()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(SCORED) + "\n")
    return path


def test_a_pipe_gets_plain_text(erprm: Erprm) -> None:
    result = erprm("show", stdin=json.dumps(SCORED) + "\n" + json.dumps(ROW))
    assert result.exit_code == 0
    assert "? 1   0.25  x = 2\n" in result.stdout
    assert result.stdout.count("── a") == 2 and "\x1b" not in result.stdout
    assert result.stderr == ""


def test_the_limit_counts_rows(erprm: Erprm) -> None:
    assert erprm("show", "-L", "3", stdin=(json.dumps(ROW) + "\n") * 5).stdout.count("── a") == 3


def test_bad_rows_are_set_aside(erprm: Erprm, tmp_path: Path) -> None:
    text = json.dumps(ROW | {"scores": []}) + "\n" + json.dumps(SCORED) + "\n"
    result = erprm("show", "--errors", tmp_path / "bad.jsonl", stdin=text)
    assert result.exit_code == 1 and result.stdout.count("── a") == 1
    assert "'scores'" in (tmp_path / "bad.jsonl").read_text()


def test_a_terminal_gets_colours_unless_told_otherwise(source: Path) -> None:
    assert "\x1b[38;5;208m0.25" in on_terminal(source, NO_COLOR="").replace(" ", "")
    for setting in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        shown = on_terminal(source, **setting)
        assert "0.25  x = 2" in shown and "\x1b" not in shown


def test_a_terminal_gets_the_pager_and_a_pager_may_stop_early(source: Path, tmp_path: Path) -> None:
    assert on_terminal(source, PAGER="sed s/x/y/", NO_COLOR="1").count("y = 2") == 1
    source.write_text((json.dumps(SCORED) + "\n") * 20_000)
    assert len(on_terminal(source, PAGER="head -3", NO_COLOR="1").splitlines()) == 3


def test_an_output_without_unicode_is_no_error(source: Path) -> None:
    command = [sys.executable, "-m", "erprm_cli", "show", str(source)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and b"?? a, sample 0 ???" in done.stdout


def test_html_writes_a_page_and_no_text(erprm: Erprm, source: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = erprm("show", source, "--html", page)
    assert result.exit_code == 0 and result.stdout == ""
    assert result.stderr == f"erprm show: 1 solutions written to {page}; open it in a browser\n"
    assert page.read_text().startswith("<!doctype html>") and '"problem":"How many?"' in page.read_text()
    assert erprm("show", "-q", "--html", page, stdin="").stderr == "erprm: stdin has no rows\n"
    assert '"rows":[]' in page.read_text()


def test_a_page_stays_as_it_was_after_a_bad_row(erprm: Erprm, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(before := '<meta name="generator" content="erprm 0.1">')
    text = json.dumps(SCORED) + "\n" + json.dumps(ROW | {"scores": []}) + "\n"
    assert erprm("show", "--html", page, stdin=text).exit_code == 1
    assert page.read_text() == before and [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert erprm("show", "--html", page, "--errors", tmp_path / "bad.jsonl", stdin=text).exit_code == 1
    assert page.read_text().count('"problem":') == 1


def test_two_files_are_compared_on_the_page_only(erprm: Erprm, source: Path, tmp_path: Path) -> None:
    page, other = tmp_path / "page.html", tmp_path / "other.jsonl"
    other.write_text(json.dumps(SCORED | {"scores": [0.75]}) + "\n")
    text = json.dumps(SCORED) + "\n" + json.dumps(SCORED | {"id": "b"}) + "\n"
    result = erprm("show", "--compare", other, "--html", page, stdin=text)
    assert result.exit_code == 0 and f"warning: 1 of them are not in {other}" in result.stderr
    assert '"values":[null,null,[0.25],[0.75]]' in page.read_text()
    assert '"columns":["label","k/K","stdin","other"]' in page.read_text()
    result = erprm("show", source, "--compare", other)
    assert isinstance(result.exception, UsageError) and "--html FILE.html" in str(result.exception)
    other.write_text(json.dumps(ROW) + "\n")
    result = erprm("show", source, "--compare", other, "--html", page)
    assert result.exit_code == 1 and "other.jsonl:1: no 'scores'" in str(result.exception)


@pytest.mark.parametrize(
    "values", [{"rates": [0.5, 1.0]}, {"successes": [1, 2], "trials": 2}, {"labels": [0.5, 1]}]
)
def test_a_solution_with_values_of_its_steps_needs_no_sample(erprm: Erprm, values: dict[str, object]) -> None:
    row = {"problem": "1 + 1?", "solution": "Two.\nSo 2."} | values
    assert "1  " in (shown := erprm("show", stdin=json.dumps(row)).stdout) and "So 2." in shown


@pytest.mark.parametrize("values", [{"scores": 7}, {"labels": "x"}, {"rollouts": [1]}])
def test_a_problem_may_have_fields_that_are_called_like_ours(
    erprm: Erprm, values: dict[str, object], tmp_path: Path
) -> None:
    row = {"id": "a", "problem": "How many?", "answer": "2"} | values
    for flags in ([], ["--html", tmp_path / "page.html"]):
        done = erprm("show", *flags, stdin=json.dumps(row))
        assert done.exit_code == 0, done.exception


@pytest.mark.parametrize("value", [1e308, -1e308, 2**60, -1, 0, 1])
def test_a_value_of_any_size_is_shown(erprm: Erprm, value: float) -> None:
    row = {"id": "1", "problem": "p", "sample": 0, "solution": "s", "steps": ["s"], "labels": [value]}
    assert erprm("show", stdin=json.dumps(row)).exit_code == 0
