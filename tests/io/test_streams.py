"""Rows of results at a terminal: the table is shown, and the rows are held back unless -o asks for them."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOLUTION = {
    **{"id": "a", "problem": "p", "sample": 0, "solution": "x", "steps": ["x"], "scores": [0.7]},
    **{"rollouts": [[1.0, 0.0]], "prediction": "5", "reward": 1.0, "label": -1},
}
HINT = "rows not shown; -o FILE or a pipe gets them"
TABLES = {"bon": "best of n", "processbench": "on errors", "calibrate": "Brier"}


def on_a_terminal(words: list[str], source: Path) -> str:
    """Return what `erprm WORDS source` shows on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
    command = [sys.executable, "-m", "erprm_cli", *words, str(source)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 1 << 16):
                shown += piece
        except OSError:  # how a terminal ends on Linux
            pass
        os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(SOLUTION | {"id": id_, "label": i - 1}) + "\n" for i, id_ in enumerate("ab"))
    )
    return path


@pytest.mark.parametrize("command", TABLES)
def test_a_terminal_gets_the_table_and_a_line_about_the_rows(command: str, source: Path) -> None:
    shown = on_a_terminal([command], source)
    assert TABLES[command] in shown and '{"' not in shown
    assert re.fullmatch(f"erprm {command}: [12] {HINT}", shown.splitlines()[-1])
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("command", TABLES)
def test_rows_that_o_asks_for_are_there(command: str, source: Path, tmp_path: Path) -> None:
    piped = subprocess.run(
        [sys.executable, "-m", "erprm_cli", command, str(source)], capture_output=True, text=True, check=True
    )
    assert piped.stdout.startswith('{"') and HINT not in piped.stderr
    assert piped.stdout in on_a_terminal([command, "-q", "-o", "-"], source)
    assert HINT not in on_a_terminal([command, "-o", str(tmp_path / "out.jsonl")], source)
    assert (tmp_path / "out.jsonl").read_text() == piped.stdout
