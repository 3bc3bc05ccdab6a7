"""Outputs: continued or replaced as a whole, never written by two runs or over the input."""

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.writing import open_atomic_output, open_output
from tests.io.helpers import OPENERS, SETTINGS, as_it_is, numbers, write


@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_is_made_with_its_settings_beside_it(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"n": 1}, {"n": 2}], opener)
    assert path.read_text() == '{"n":1}\n{"n":2}\n'
    assert json.loads((tmp_path / "out.jsonl.meta.json").read_text())["settings"] == SETTINGS
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "out.jsonl.meta.json"]


def test_the_same_command_continues_after_an_incomplete_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"n": 1}, {"n": 2}])
    with path.open("ab") as file:
        file.write(b'{"n":3,"text":"' + b"x" * 200_000)  # longer than a block that is searched
    with open_output(str(path), SETTINGS) as output:
        assert [row["n"] for row in output.existing(as_it_is)] == [1, 2]
        output.write({"n": 3})
    assert numbers(path) == [1, 2, 3]


def test_a_file_of_one_incomplete_line_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [])
    path.write_bytes(b'{"n":')
    with open_output(str(path), SETTINGS) as output:
        assert list(output.existing(as_it_is)) == []


def test_a_bad_row_in_an_earlier_output_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"n": 1}])
    path.write_bytes(b'{"n":\n{"n":2}\n')
    with pytest.raises(UserError, match="out.jsonl:1: not JSON.*--overwrite"):
        with open_output(str(path), SETTINGS) as output:
            list(output.existing(as_it_is))


def test_an_atomic_output_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"n": 1}], open_atomic_output)
    write(path, [{"n": 2}], open_atomic_output)
    assert numbers(path) == [2]


def test_an_atomic_output_appears_only_when_all_went_well(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt), open_atomic_output(str(path), SETTINGS) as output:
        output.write({"n": 1})
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    write(path, [{"n": 1}], open_atomic_output)
    with pytest.raises(RowError), open_atomic_output(str(path), SETTINGS) as output:
        output.write({"n": 2})
        raise RowError("bad")
    assert numbers(path) == [1]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    write(link, [{"n": 1}], open_atomic_output)
    assert link.is_symlink() and numbers(path) == [1]


@pytest.mark.parametrize("opener", OPENERS)
def test_two_runs_never_write_one_file(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "out.jsonl"
    with opener(str(path), SETTINGS) as output:
        with pytest.raises(UserError, match="is writing to it"), opener(str(path), SETTINGS):
            pass
        output.write({"n": 1})
    assert numbers(path) == [1]
    write(path, [{"n": 2}], opener)  # the lock is gone with the run


def test_a_lock_of_another_process_holds(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is writing to it"):
            write(path, [])


@pytest.mark.parametrize("opener", OPENERS)
def test_errors_and_output_are_two_files(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match="another flag of this one"):
        with bad_rows(str(path)), opener(str(path), SETTINGS):
            pass


def test_an_atomic_output_is_refused_while_a_run_appends(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with open_output(str(path), SETTINGS) as output:
        output.write({"n": 1})
        with pytest.raises(UserError, match="is writing to it"):
            write(path, [{"n": 2}], open_atomic_output)
    assert numbers(path) == [1]


@pytest.mark.parametrize("opener", OPENERS)
def test_the_input_is_not_written(tmp_path: Path, opener: Any) -> None:
    path, link = tmp_path / "in.jsonl", tmp_path / "link.jsonl"
    path.write_text('{"n":1}\n')
    link.symlink_to(path)
    for target in (path, link):
        with pytest.raises(UsageError, match="is also the input"):
            write(target, [], opener, source=str(path), overwrite=True)
    assert path.read_text() == '{"n":1}\n'


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_cannot_be_written_is_named(tmp_path: Path, opener: Any, overwrite: bool) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        write(tmp_path, [], opener, overwrite=overwrite)
    with pytest.raises(UserError, match="nowhere/out.jsonl: No such file"):
        write(tmp_path / "nowhere" / "out.jsonl", [], opener, overwrite=overwrite)
    with pytest.raises(UsageError, match="as JSON Lines"):
        write(tmp_path / "out.parquet", [], opener, overwrite=overwrite)
    with pytest.raises(UserError, match="No space left"):
        write(Path("/dev/full"), [{"n": 1}], opener, overwrite=overwrite)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("opener", OPENERS)
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, opener: Any) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        write(tmp_path / "out.jsonl", [], opener)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_device_is_written_and_not_replaced(opener: Any) -> None:
    write(Path("/dev/null"), [{"n": 1}], opener)
    assert not Path("/dev/null").is_file()
    assert not Path("/dev/null.meta.json").exists()


def test_rows_on_a_full_disk_are_one_line_and_status_1(shell: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"rollouts":[[1.0]]}\n')
    done = shell("label", path, "-o", "/dev/full", "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "erprm: /dev/full: No space left on device\n"
