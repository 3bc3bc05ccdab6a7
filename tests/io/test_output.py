"""When rows are safe on the disk, and how its errors are reported."""

import errno
import os
import time
from pathlib import Path
from threading import Event

import pytest

from erprm_cli.errors import UserError
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import open_output


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_are_synced_in_time_though_no_row_follows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erprm_cli.io.output.SYNC_INTERVAL_S", 0.05)
    synced = Event()
    monkeypatch.setattr(os, "fsync", lambda _: synced.set())
    path = tmp_path / name
    with open_output(str(path), {}) as out:
        out.write({"id": "a"})
        assert synced.wait(10)  # the engine says nothing more
        assert list(read_rows(str(path), dict)) == [{"id": "a"}]
        synced.clear()
        out.write({"id": "b"})
        assert synced.wait(10)
    assert [row["id"] for row in read_rows(str(path), dict)] == ["a", "b"]


def test_an_error_of_the_timer_is_raised_by_the_next_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        tried.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    tried = Event()
    monkeypatch.setattr("erprm_cli.io.output.SYNC_INTERVAL_S", 0.05)
    monkeypatch.setattr(os, "fsync", fsync)
    with (
        pytest.raises(UserError, match=r"rows.jsonl: No space left on device; the rows so far are kept"),
        open_output(str(tmp_path / "rows.jsonl"), {}) as out,
    ):
        out.write({"id": "a"})
        assert tried.wait(10)
        for _ in range(1000):
            time.sleep(0.01)
            out.write({"id": "b"})
