"""Names that no output can have, nor an input."""

from pathlib import Path

import pytest

from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.ownership import NamedFile, check_files
from erprm_cli.io.sources import check_input
from erprm_cli.roles import Role


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        ("/", "Is a directory"),
        (".", "Is a directory"),
        ("/dev/null/x", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("a" * 300, "File name too long"),
        ("a" * 250, "File name too long"),  # FILE.meta.json is longer
        ("a\0b", "null"),
    ],
)
@pytest.mark.parametrize("role", [Role.ROWS, Role.BAD_ROWS])
def test_names_that_no_output_can_have(
    role: Role, name: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with pytest.raises(UsageError, match=fault):
        check_files([NamedFile("-o", role, name)])


def test_an_input_whose_name_is_too_long_is_one_line() -> None:
    with pytest.raises(UserError, match="File name too long"):
        check_input("a" * 300)
