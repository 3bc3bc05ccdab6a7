"""Whole files."""

import hashlib
import os
from pathlib import Path

import pytest

from erprm_cli.errors import UsageError
from erprm_cli.io.files import file_hash, read_json, read_toml, replacing, write_json


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as draft:
        draft.write_text("one")
    with pytest.raises(ZeroDivisionError), replacing(path) as draft:
        draft.write_text("two")
        raise ZeroDivisionError
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["file"]


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
