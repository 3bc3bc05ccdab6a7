"""The list of messages that no test produces, on code of four messages; and what is written down for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.messages.coverage import messages, not_produced
from tests.messages.sitecustomize import TARGET

CODE = """
from erprm_cli.errors import RowError, UserError

def fail(reporter, kind):
    reporter.warn("first")
    if kind:
        raise UserError(
            "second",
            where="x",
        )
    if kind is None:
        raise RowError("third")  # no test: cannot happen here
    raise ValueError("not ours")
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "code.py").write_text(CODE)
    return tmp_path


def test_messages_are_errors_and_warnings_without_an_excuse(root: Path) -> None:
    assert [(message.begin, message.end) for message in messages(root)] == [(5, 5), (7, 10)]


def test_what_was_written_down_is_not_listed(root: Path, tmp_path: Path) -> None:
    places = tmp_path / "places"
    places.write_text(f"{root}/commands/code.py:7\n")
    (left,) = not_produced(places, root)
    assert str(left) == f'{root}/commands/code.py:5: reporter.warn("first")'


def test_programs_that_tests_start_write_down_their_messages(root: Path, tmp_path: Path) -> None:
    places = tmp_path / "places"
    places.touch()
    path = os.pathsep.join([str(Path(__file__).parent), str(root / "commands")])
    code = (
        "import code_; from erprm_cli.terminal.reporter import Reporter\n"
        "try: code_.fail(Reporter('x'), True)\nexcept Exception as error: print(error)"
    )
    (root / "commands" / "code.py").rename(root / "commands" / "code_.py")
    environment = os.environ | {TARGET: str(places), "PYTHONPATH": path}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("x: second\n", "erprm x: warning: first\n")
    assert places.read_text() == f"{root}/commands/code_.py:5\n{root}/commands/code_.py:7\n"
    assert not_produced(places, root) == []
