"""The list of messages that no test produces, on code of four messages; and what is written down for it."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.messages.coverage import ROOT, Listener, messages, not_produced
from tests.messages.sitecustomize import ADDRESS

CODE = """
from erprm_cli.errors import RowError, UserError
from erprm_cli.terminal.say import say

def fail(reporter, kind):
    reporter.warn("first")
    if kind:
        raise UserError(
            "second",
            where="x",
        )
    if kind is None:
        raise RowError("third")  # no test: cannot happen here
    say("fourth")
    raise ValueError("not ours")
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "code.py").write_text(CODE)
    return tmp_path


def test_messages_are_errors_and_warnings_without_an_excuse(root: Path) -> None:
    assert sorted((message.begin, message.end) for message in messages(root)) == [(6, 6), (8, 11), (14, 14)]


def test_what_was_produced_is_not_listed(root: Path) -> None:
    (left,) = not_produced([f"{root}/commands/code.py:{line}" for line in (8, 14)], root)
    assert str(left) == f'{root}/commands/code.py:6: reporter.warn("first")'


@pytest.mark.parametrize("disk", ["", "full"])
def test_programs_that_tests_start_send_their_messages(root: Path, disk: str) -> None:
    listener = Listener()
    path = os.pathsep.join([str(Path(__file__).parent), str(root / "commands")])
    code = (
        "import code_; from erprm_cli.terminal.reporter import Reporter\n"
        "for kind in (True, False):\n"
        "  try: code_.fail(Reporter('x'), kind)\n  except Exception as error: print(error)"
    )
    (root / "commands" / "code.py").rename(root / "commands" / "code_.py")
    environment = os.environ | {ADDRESS: listener.address, "PYTHONPATH": path}
    limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))) if disk else None
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, preexec_fn=limit
    )
    assert (done.stdout, done.stderr) == (
        "x: second\nnot ours\n",
        "erprm x: warning: first\nerprm x: warning: first\nerprm: fourth\n",
    )
    listener.close()
    ours = {place for place in listener.places if place.startswith(str(root))}
    assert ours == {f"{root}/commands/code_.py:{line}" for line in (6, 8, 14)}
    assert not_produced(listener.places, root) == []


def test_runs_with_one_file_add_up(tmp_path: Path) -> None:
    file = tmp_path / "places"
    file.write_text("/before.py:1\n")
    test = tmp_path / "test_one.py"
    test.write_text("from erprm_cli.errors import UserError\n\ndef test_one():\n    UserError('x')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.messages.coverage"]
    command += ["--rootdir", str(tmp_path), str(test), "--messages", "--messages-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "messages that no test produced" in done.stdout, done.stderr
    assert file.read_text() == f"/before.py:1\n{test}:4\n"
