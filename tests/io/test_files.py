"""Whole files."""

import os
from pathlib import Path

import pytest

from erprm_cli.io.files import replacing


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as draft:
        draft.write_text("one")
    with pytest.raises(ZeroDivisionError), replacing(path) as draft:
        draft.write_text("two")
        raise ZeroDivisionError
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["file"]
