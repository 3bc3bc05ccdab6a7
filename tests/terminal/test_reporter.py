"""What is reported on stderr, on a terminal and in a log."""

import os
import pty
import re
import subprocess
import sys
import time
from fcntl import ioctl
from struct import pack
from termios import TIOCSWINSZ

import pytest

from erprm_cli.terminal import reporter
from erprm_cli.terminal.reporter import Reporter


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_log_has_the_count_of_now(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows may come in bursts: the first of many must not stand in the log until the next burst."""
    monkeypatch.setattr(reporter, "LOG_INTERVAL_S", 0.2)
    with Reporter("score") as report:
        for done in range(1, 1_330):
            report.progress(done, "solutions", 2_000, "5 tokens/s")
        assert lines(capsys) == []
        time.sleep(0.5)
        written = lines(capsys)
    line = r"erprm score: 1,329/2,000 solutions \(66%\), [\d,]+/s, 0 s left, 5 tokens/s"
    assert re.fullmatch(line, written[0])
    time.sleep(0.3)
    assert lines(capsys) == []


def test_a_log_has_elapsed_time_if_the_total_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporter, "LOG_INTERVAL_S", 0.2)
    with Reporter("convert") as report:
        report.progress(7, "rows")
        time.sleep(0.5)
    assert re.fullmatch(r"erprm convert: 7 rows, [\d,.]+/s, 0 s elapsed", lines(capsys)[0])


def test_a_phase_hides_the_progress_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporter, "LOG_INTERVAL_S", 0.1)
    with Reporter("rlhf") as report:
        report.progress(10, "solutions", 10)
        report.begin_phase("iteration 1/2, fine-tuning")
        time.sleep(0.3)
        assert lines(capsys) == []
        report.progress(1, "steps", 4)
        time.sleep(0.3)
    assert lines(capsys)[0].startswith("erprm rlhf: iteration 1/2, fine-tuning, 1/4 steps (25%)")


def test_several_inputs_are_one_whole() -> None:
    report = Reporter("processbench")
    report.part = 2, 4
    report.watch(lambda: 0.5)
    report.progress(50, "rows")
    assert report._texts()[0] == "50/~80 rows (62%)"


def test_a_quiet_reporter_warns_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporter, "LOG_INTERVAL_S", 0.01)
    with Reporter("label", quiet=True) as report:
        report.info("read")
        report.progress(1, "rows")
        time.sleep(0.1)
        report.warn("one row is \x1b[31mdoubtful")
    assert lines(capsys) == ["erprm label: warning: one row is doubtful"]


class Screen:
    """What a terminal shows of the bytes that it gets: enough of it for one line that is redrawn."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\??[\d;]*[A-Za-z]|[^\x1b]", text):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self.row += 1
                self.lines += [""] * (self.row == len(self.lines))
            elif part == "\x1b[2K":
                self.lines[self.row] = ""
            elif part == "\x1b[1A":
                self.row -= 1
            elif not part.startswith("\x1b"):
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1
            else:
                assert part.endswith("m"), f"unexpected {part!r}: hides the cursor or moves it"


WORK = """
import sys, time, warnings
from erprm_cli.io.writing import open_output
from erprm_cli.terminal import reporter
reporter.QUIET_S = 0.3
quiet = sys.argv[1:] == ["-q"]
with open_output("-", {}) as out, reporter.Reporter("score", quiet) as report:
    for done in range(1, 13):
        time.sleep(0.1)
        report.progress(done, "solutions", 40, "5 tokens/s")
        if done == 6:
            report.warn("a row is [bold]doubtful[/bold]")
            print("from a library", file=sys.stderr)
        if done == 9:
            out.write({"id": "a"})
    report.info("the end")
"""


def watch(columns: int, *arguments: str, **environment: str) -> list[list[str]]:
    """Return what a person sees at each moment of WORK on a terminal with so many columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-c", WORK, *arguments]
    given = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=given | {"TERM": "xterm"} | environment
    ) as process:
        os.close(theirs)
        screen, seen = Screen(), []
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # the end, on Linux
                break
            screen.feed(data.decode())
            seen.append([line.rstrip() for line in screen.lines])
    os.close(ours)
    assert process.returncode == 0
    return seen


PRINTED = [
    "erprm score: warning: a row is [bold]doubtful[/bold]",
    "from a library",
    '{"id":"a"}',
    "erprm score: the end",
]


def test_a_terminal_has_one_line_that_is_erased_at_the_end() -> None:
    seen = watch(100)
    assert [line for line in seen[-1] if line] == PRINTED
    for shown in seen:
        assert sum("solutions (" in line for line in shown) <= 1
        assert len([line for line in shown if line]) <= len(PRINTED) + 1
    drawn = next(line for shown in seen for line in shown if "/40 solutions" in line)
    assert re.fullmatch(
        r"[━╸╺ ]{20} erprm score: \d+/40 solutions \(\d+%\), [\d.]+/s, \d s left, 5 tokens/s", drawn
    )
    after_row = next(shown for shown in seen if PRINTED[2] in shown and "solutions (" in shown[-1])
    assert after_row[:3] == PRINTED[:3]  # the line is drawn below the row


@pytest.mark.parametrize("columns", [30, 60])
def test_a_narrow_terminal_shows_the_beginning_of_the_line(columns: int) -> None:
    seen = watch(columns)
    drawn = [line for shown in seen for line in shown if "/40" in line]
    assert drawn
    assert all(line.startswith("erprm score: ") and len(line) <= columns for line in drawn)
    assert not any("/40" in line for line in seen[-1])


def test_a_terminal_with_q_shows_no_progress() -> None:
    assert not any("solutions" in line for shown in watch(100, "-q") for line in shown)


def test_a_dumb_terminal_gets_no_escapes() -> None:
    seen = watch(100, TERM="dumb")
    assert [line for line in seen[-1] if line] == PRINTED
