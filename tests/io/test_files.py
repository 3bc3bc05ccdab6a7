"""Whole files."""

import errno
import hashlib
from pathlib import Path

import pytest

from erprm_cli.errors import UsageError
from erprm_cli.io.files import file_hash, open_locked, read_json, read_toml, write_json


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a = ", "Invalid value"),
        (b"a = '\xff'", "can't decode byte 0xff"),
    ],
    ids=["not TOML", "not UTF-8"],
)
def test_what_is_wrong_with_a_toml_file_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"bad.toml: .*{reason}"):
        read_toml(path)
    with pytest.raises(UsageError, match="absent.toml: No such file"):
        read_toml(tmp_path / "absent.toml")


def test_a_toml_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text("a = [1, 2]\n")
    assert read_toml(path) == {"a": [1, 2]}


def test_json_comes_back_and_is_for_people(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": [1.0, None, "\u00e9"]})
    assert read_json(path) == {"a": [1.0, None, "\u00e9"]}
    assert path.read_text(encoding="utf-8").splitlines()[:2] == ["{", '  "a": [']


def test_a_hash_is_of_the_bytes_and_of_what_is_added(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_hash(path) == hashlib.sha256(b"abc").hexdigest()
    assert file_hash(path, "more") == hashlib.sha256(b"abc\0more").hexdigest()


def test_a_file_system_without_locks_gives_one_warning_per_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    for _ in range(2):
        open_locked(str(tmp_path / "out.jsonl")).close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("erprm: warning: ") and "has no locks (No locks available)" in line
