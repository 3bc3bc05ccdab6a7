from pathlib import Path

import pytest

from erprm_cli.io.content import KEPT_BYTES
from erprm_cli.io.seal import SEAL, damage, is_sealed, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "state.json").write_text('{"step": 4}')
    (tmp_path / "weights").write_bytes(bytes(KEPT_BYTES))
    assert not is_sealed(tmp_path)
    seal(tmp_path)
    return tmp_path


def test_a_folder_is_as_it_was_sealed(folder: Path) -> None:
    assert is_sealed(folder) and damage(folder) is None
    (folder / "another").write_text("")
    assert damage(folder) is None


@pytest.mark.parametrize("name", ["below/state.json", "weights", SEAL])
@pytest.mark.parametrize("how", ["gone", "empty", "cut", "other"])
def test_damage_is_named(folder: Path, name: str, how: str) -> None:
    path = folder / name
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": data[:-4], "other": b"x" * len(data)}[how])
    if (name, how) != ("weights", "other"):  # of a large file only the size is known
        assert name in str(damage(folder))
