"""Hashes of large files are kept, and never those of another content."""

import os
from pathlib import Path

import pytest

from erprm_cli.io import content
from erprm_cli.io.files import file_hash

LARGE = os.urandom(content.KEPT_BYTES)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "erprm" / "hashes"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(LARGE)
    return path


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what was just written count as old."""
    monkeypatch.setattr(content, "SETTLED_S", -1.0)


def test_a_large_file_is_read_once(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    found = content.cached_hash(path)
    assert found == file_hash(path)
    monkeypatch.setattr(content, "file_hash", lambda path: pytest.fail("read again"))
    assert content.cached_hash(path) == found
    assert len(list(cache.iterdir())) == 1


def test_a_file_that_was_just_written_is_read_again(path: Path, cache: Path) -> None:
    """It could change again, without a change of its times: the clocks of file systems are coarse."""
    first = content.cached_hash(path)
    path.write_bytes(LARGE[::-1])
    assert content.cached_hash(path) == file_hash(path) != first
    assert not cache.exists()


def test_times_that_were_set_back_do_not_hide_a_change(
    path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    first, status = content.cached_hash(path), path.stat()
    path.write_bytes(LARGE[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns and path.stat().st_size == status.st_size
    if path.stat().st_ctime_ns != status.st_ctime_ns:  # not within one tick of the clock
        assert content.cached_hash(path) == file_hash(path) != first


@pytest.mark.parametrize("damage", ["", "half", "not a hash" * 100])
def test_a_damaged_or_missing_cache_is_made_again(
    damage: str, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    found = content.cached_hash(path)
    (kept,) = cache.iterdir()
    kept.write_text(damage)
    assert content.cached_hash(path) == found and kept.read_text() == found


def test_a_cache_that_cannot_be_written_is_done_without(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert content.cached_hash(path) == file_hash(path)
