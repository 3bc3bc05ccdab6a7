"""What is reported on stderr, on a terminal and in a log."""

import time

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
    assert written[0] == "erprm score: 1,329/2,000 solutions, 0 s, 5 tokens/s"
    time.sleep(0.3)
    assert lines(capsys) == []


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
