"""When rows are safe on the disk, and how its errors are reported."""

import errno
import os
import signal
import time
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from erprm_cli.errors import Stopped, UserError
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import open_atomic_output, open_output
from tests.io.helpers import OPENERS


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


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("how", ["deleted", "replaced", "changed"])
@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_an_output_that_another_process_takes_away_is_an_error(
    tmp_path: Path, opener: Any, how: str, name: str
) -> None:
    path = tmp_path / name
    with pytest.raises(UserError, match=f"{name} was {how} by another process"), opener(str(path), {}) as out:
        out.write({"n": 1})
        out.finish()
        there = path if opener is open_output else tmp_path / f".{name}.erprm.tmp"
        if how == "changed":
            os.truncate(there, 3)
        else:
            there.unlink()
        if how == "replaced":
            there.write_bytes(b"of another program")
        out.write({"n": 2})


def test_a_deleted_output_is_noticed_while_the_command_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erprm_cli.io.output.SYNC_INTERVAL_S", 0.01)
    path = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match="was deleted by another process"), open_output(str(path), {}) as out:
        path.unlink()
        for number in range(1_000):
            out.write({"n": number})
            time.sleep(0.01)
    assert number < 900


def test_a_sidecar_that_is_deleted_while_the_model_is_loaded_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match="no readable out.jsonl.meta.json"), open_output(str(path), {}) as out:
        (tmp_path / "out.jsonl.meta.json").unlink()
        out.add_provenance({"engine": "tiny"})


def test_a_stop_names_the_file_that_keeps_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(Stopped) as caught, open_output(str(path), {}) as out:
        out.write({"n": 1})
        raise Stopped(signal.SIGINT)
    assert caught.value.kept_in == str(path)
    with pytest.raises(Stopped) as caught, open_atomic_output(str(tmp_path / "atomic.jsonl"), {}) as out:
        raise Stopped(signal.SIGINT)
    assert caught.value.kept_in is None
