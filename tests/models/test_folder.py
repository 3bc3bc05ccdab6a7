"""The folder of a trained model: all of it, or nothing and one line."""

from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from erprm_cli.errors import UserError
from erprm_cli.models.folder import write_folder


class FullDisk:
    """A model whose weights do not fit."""

    def save_pretrained(self, folder: Path, **_: Any) -> None:
        (folder / "config.json").write_text("{}")
        raise SafetensorError("Error while serializing: I/O error: No space left on device")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="model: Error while serializing: I/O error: No space left on device"):
        write_folder(tmp_path / "model", FullDisk(), None, {}, "")
    assert list(tmp_path.iterdir()) == []
