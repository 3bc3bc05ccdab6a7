import io
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from erprm_cli.terminal import stderr
from erprm_cli.terminal.reporter import Reporter

HOSTILE = "\x1b]0;owned\x07\x1b[2Jname\x9b31m\u202e"


@contextmanager
def cleaned() -> Iterator[io.StringIO]:
    """Yield what reaches the terminal while stderr is cleaned."""
    raw, before = io.StringIO(), sys.stderr
    sys.stderr = raw
    try:
        stderr.clean_stderr()
        stderr.clean_stderr()  # once is enough
        yield raw
    finally:
        sys.stderr = before


def test_logs_warnings_and_prints_of_libraries_are_cleaned() -> None:
    with cleaned() as shown:
        handler = logging.StreamHandler()
        handler.emit(logging.makeLogRecord({"msg": f"type {HOSTILE}"}))
        sys.stderr.write(warnings.formatwarning(HOSTILE, UserWarning, "a.py", 1, ""))
        print(HOSTILE, file=sys.stderr)
        sys.stderr.writelines([HOSTILE, "\n"])
    assert shown.getvalue() == "type name\na.py:1: UserWarning: name\nname\nname\n"


def test_a_progress_bar_of_a_library_stays_one_line() -> None:
    with cleaned() as shown:
        sys.stderr.write("\r 50%\x1b[A")
        sys.stderr.write("\r100%\n")
    assert shown.getvalue() == "\r 50%\r100%\n"


def test_our_own_progress_line_is_drawn_and_its_note_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erprm_cli.terminal.reporter.QUIET_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with cleaned() as shown:
        monkeypatch.setattr(shown, "isatty", lambda: True)
        with Reporter("sample") as reporter:
            reporter.progress(1, "solutions", note=HOSTILE)
            begin = time.monotonic()
            while "solutions" not in shown.getvalue() and time.monotonic() - begin < 20:
                time.sleep(0.01)
    assert "erprm sample: 1 solutions" in shown.getvalue()
    assert not any(part in shown.getvalue() for part in ("owned", "\x9b", "\u202e"))


def test_a_closed_stderr_is_left_alone() -> None:
    code = "from erprm_cli.terminal.stderr import clean_stderr; clean_stderr()"
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" 2>&-', sys.executable, code])
    assert done.returncode == 0
