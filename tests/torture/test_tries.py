"""What counts as a hang: processor time without end or a wait without end, but no wait for a busy machine."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.torture import tries as tries_module
from tests.torture.tries import tries

pytestmark = pytest.mark.torture


def spin() -> None:
    while True:
        pass


def test_a_hang_is_told_by_processor_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries_module, "LOOK_S", 0.1)
    monkeypatch.setattr(tries_module, "HANG_CPU_S", 0.5)
    monkeypatch.setattr(tries_module, "HANG_WAIT_S", 3.0)
    attempts: list[Callable[[], object]] = [partial(time.sleep, 0.5), spin, partial(time.sleep, 60), str]
    log: list[str] = []
    found = tries("some", len(attempts), lambda number: attempts[number](), tmp_path, log.append)
    assert found["hangs"] == 2 and found["tracebacks"] == 0
    assert "in spin" in log[0]


def test_what_a_busy_machine_withholds_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries_module, "LOOK_S", 0.05)
    monkeypatch.setattr(tries_module, "HANG_WAIT_S", 3.0)
    monkeypatch.setattr(tries_module, "WAITING_CPU_S", 0.0)

    def slow(_: int) -> None:  # a little work, again and again, for longer than a process may wait
        for _ in range(20):
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass
            time.sleep(0.2)

    assert tries("some", 1, slow, tmp_path, lambda _: None)["hangs"] == 0
