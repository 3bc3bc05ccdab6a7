"""The file of --errors."""

from pathlib import Path

import pytest

from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.bad_rows import BadRows, bad_rows
from erprm_cli.io.reading import read_rows
from tests.io.helpers import as_it_is


def test_bad_rows_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    path, errors = tmp_path / "in.jsonl", tmp_path / "errors.jsonl"
    path.write_text('{"n":1}\n')
    errors.write_text('{"place":"in:1","reason":"bad","line":"x"}\n')
    with bad_rows(str(errors)) as bad:
        list(read_rows(str(path), as_it_is, bad))
    assert errors.read_text() == ""


def test_max_errors_needs_errors() -> None:
    with pytest.raises(UsageError, match="--errors"), bad_rows(None, 3):
        pass


def test_bad_rows_are_not_written_to_the_input(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(content := '{"place":"in:1","reason":"bad","line":"x"}\nbad\n')
    with pytest.raises(UsageError, match="is also the input"), bad_rows(str(path)) as bad:
        list(read_rows(str(path), as_it_is, bad))
    assert path.read_text() == content


def test_errors_on_a_full_disk_are_an_error() -> None:
    bad = BadRows("/dev/full")
    with pytest.raises(UserError, match="/dev/full: No space left"):
        bad.add("in:1", "bad", b"line")
    bad.abandon()


def test_notes_do_not_count_as_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    with bad_rows(str(path)) as bad:
        bad.note("answers", "no verdict", "pair")
    assert [row["reason"] for row in read_rows(str(path), as_it_is)] == ["no verdict"]
    BadRows().note("answers", "no verdict", "pair")  # nowhere to tell, and no error


def test_a_file_of_bad_rows_that_another_process_deletes_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    with (
        pytest.raises(UserError, match="bad.jsonl was deleted by another"),
        bad_rows(str(path)) as bad,
    ):
        bad.add("in:1", "bad", b"line")
        path.unlink()


@pytest.mark.parametrize("name", ["bad.md", "bad.csv", "bad.jsonl.gz"])
def test_a_name_that_promises_another_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="JSON Lines|uncompressed"), bad_rows(str(tmp_path / name)):
        pass
