"""The directory of a run of several phases."""

import os
from pathlib import Path

import pytest

from erprm_cli.errors import UserError
from erprm_cli.io.run_directory import check_run_directory, run_directory
from erprm_cli.io.writing import open_output
from tests.io.helpers import SETTINGS


def test_a_run_directory_is_continued_by_the_same_settings_only(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    check_run_directory(run, SETTINGS)
    (run / "iteration-1").mkdir()
    check_run_directory(run, SETTINGS)
    with pytest.raises(UserError, match="one was made with seed 0, not 1"):
        check_run_directory(run, SETTINGS | {"seed": 1})
    check_run_directory(run, SETTINGS | {"seed": 1}, overwrite=True)
    assert os.listdir(run) == ["run.meta.json"]


def test_two_runs_never_work_in_one_directory(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with run_directory(run, SETTINGS):
        (run / "iteration-1" / ".policy.123.erprm.tmp").mkdir(parents=True)
        for overwrite in (False, True):
            with pytest.raises(UserError, match="run: another run"):
                with run_directory(run, SETTINGS, overwrite=overwrite):
                    pass
        assert (run / "iteration-1" / ".policy.123.erprm.tmp").exists()
    with run_directory(run, SETTINGS):
        assert os.listdir(run / "iteration-1") == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_not_a_run_directory_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        check_run_directory(tmp_path, SETTINGS, overwrite=overwrite)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_only_what_a_run_made_is_deleted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with run_directory(run, SETTINGS), open_output(str(run / "samples.jsonl"), {}):
        pass
    chosen = run / "chosen.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["erprm", "bon"])  # another command
        with open_output(str(chosen), {}) as out:
            out.write({"n": 1})
    with pytest.raises(UserError, match=r"did not write there \(chosen.jsonl, chosen.jsonl.meta.json\)"):
        with run_directory(run, SETTINGS | {"seed": 1}, overwrite=True):
            pass
    assert sorted(os.listdir(run))[:2] == ["chosen.jsonl", "chosen.jsonl.meta.json"]
    for path in (chosen, run / "chosen.jsonl.meta.json"):
        path.unlink()
    with run_directory(run, SETTINGS | {"seed": 1}, overwrite=True):
        assert sorted(os.listdir(run)) == ["run.lock", "run.meta.json"]
    assert os.listdir(tmp_path) == ["run"]


def test_a_run_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file/run: Not a directory"):
        check_run_directory(tmp_path / "file" / "run", SETTINGS)
