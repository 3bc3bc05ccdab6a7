"""Runs that are stopped and continued."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from erprm_cli.errors import UserError
from erprm_cli.io.seal import seal
from erprm_cli.training.example_store import ExampleStore
from erprm_cli.training.run_folder import (
    RESULTS,
    begin_run,
    checkpoints,
    finished,
    forget,
    locked_run,
    run_folder,
)
from tests.training.runs import Killed, Log, assert_equal_bits, command, run


@pytest.mark.parametrize("kill_at", [1, 7, 8])  # before any checkpoint, in an epoch, at its end
@pytest.mark.slow
def test_a_stopped_run_continues_to_the_same_bits(
    base: str, tmp_path: Path, unbroken: tuple[Path, Log], kill_at: int
) -> None:
    with pytest.raises(Killed):
        run(base, tmp_path / "prm", kill_at=kill_at)
    assert not (tmp_path / "prm").exists()
    log = run(base, tmp_path / "prm")
    last_saved = 0 if kill_at == 1 else 6
    assert [row["step"] for row in log[:-1]] == list(range(last_saved + 1, 13))
    names = ("step", "epoch", "loss", "lr", "grad_norm")
    assert [[row[name] for name in names] for row in log[:-1]] == [
        [row[name] for name in names] for row in unbroken[1][last_saved:-1]
    ]
    assert_equal_bits(tmp_path / "prm", unbroken[0])
    assert [path.name for path in tmp_path.iterdir()] == ["prm"]


@pytest.mark.slow
def test_an_incomplete_checkpoint_is_reported_and_ignored(
    base: str,
    tmp_path: Path,
    unbroken: tuple[Path, Log],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save, saved = torch.save, []

    def die_within_the_third_checkpoint(value: Any, path: Any, *rest: Any) -> None:
        if "checkpoint-6" in str(path):
            Path(path).write_bytes(b"half")
            raise Killed
        saved.append(path)
        save(value, path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", die_within_the_third_checkpoint)
        with pytest.raises(Killed):
            run(base, tmp_path / "prm")
    assert saved
    assert [path.name for path in checkpoints(run_folder(tmp_path / "prm"))] == ["checkpoint-4"]
    log = run(base, tmp_path / "prm")
    assert "the checkpoint of step 6 is incomplete and ignored; continuing from step 4" in (
        capsys.readouterr().err
    )
    assert log[0]["step"] == 5
    assert_equal_bits(tmp_path / "prm", unbroken[0])


@pytest.mark.slow
def test_a_stopped_run_is_not_continued_with_other_settings(base: str, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(base, tmp_path / "prm", kill_at=5)
    with pytest.raises(UserError, match="a stopped run with lr 0.01, not 0.02; --overwrite"):
        run(base, tmp_path / "prm", lr=0.02)
    log = run(base, tmp_path / "prm", lr=0.02, overwrite=True)
    assert log[0]["step"] == 1


@pytest.mark.slow
def test_a_killed_process_continues(
    base: str, rows_file: Path, tmp_path: Path, unbroken: tuple[Path, Log]
) -> None:
    words = command(base, rows_file, tmp_path / "prm")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not checkpoints(run_folder(tmp_path / "prm")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not (tmp_path / "prm").exists():  # it was killed in time
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "continuing from" in done.stderr
    assert_equal_bits(tmp_path / "prm", unbroken[0])


@pytest.fixture(scope="module")
def stopped(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run that was stopped after a checkpoint."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Killed):
        run(base, folder / "prm", kill_at=3)
    return folder


CHECKPOINT = ".prm.run/checkpoint-2/"


@pytest.mark.parametrize("how", ["gone", "empty", "cut", "braces", "other bytes"])
@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "seal.json"],
)
def test_a_damaged_checkpoint_is_one_line(
    base: str, stopped: Path, tmp_path: Path, name: str, how: str
) -> None:
    path = shutil.copytree(stopped, tmp_path / "work") / CHECKPOINT / name
    _damage(path, how)
    if (name, how) == ("seal.json", "gone"):  # as in a checkpoint of an earlier version
        assert run(base, tmp_path / "work" / "prm")[0]["step"] == 3
        return
    with pytest.raises(UserError, match=r"checkpoint-2 is damaged \(.*\); delete that folder, and the same"):
        run(base, tmp_path / "work" / "prm")
    if (name, how) == ("optimizer.pt", "empty"):
        shutil.rmtree(path.parent)
        assert run(base, tmp_path / "work" / "prm")[0]["step"] == 1


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
def test_damaged_weights_of_the_same_size_are_one_line(
    base: str, stopped: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(stopped, tmp_path / "work") / CHECKPOINT / name
    monkeypatch.setattr("erprm_cli.io.seal.KEPT_BYTES", 0)
    seal(path.parent)  # as if these were large
    _damage(path, "other bytes")
    with pytest.raises(UserError, match="checkpoint-2 cannot be loaded .*; delete that folder, and the same"):
        run(base, tmp_path / "work" / "prm")


@pytest.mark.parametrize("how", ["gone", "empty", "cut", "other bytes", "a list"])
def test_damaged_settings_of_a_stopped_run_are_one_line(
    base: str, stopped: Path, tmp_path: Path, how: str
) -> None:
    shutil.copytree(stopped, tmp_path / "work")
    _damage(tmp_path / "work" / ".prm.run" / "settings.json", how)
    with pytest.raises(
        UserError, match=r"holds a stopped run, and its settings.json cannot be used \(.*--over"
    ):
        run(base, tmp_path / "work" / "prm")
    assert run(base, tmp_path / "work" / "prm", overwrite=True)[0]["step"] == 1


def _damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
        return
    damaged = {"empty": b"", "cut": data[: len(data) // 2], "braces": b"{}", "a list": b"[1]"}
    path.write_bytes(damaged.get(how, b"\xff" * len(data)))


@pytest.mark.parametrize("result", [None, [], {}, {"rows": 1}, {name: "2" for name in RESULTS}])
def test_a_model_with_a_damaged_card_is_not_taken_for_a_finished_one(tmp_path: Path, result: object) -> None:
    (tmp_path / "erprm.json").write_text(json.dumps({"settings": {"lr": 1.0}, "result": result}))
    with pytest.raises(UserError, match="is not empty and not a model made by erprm"):
        finished(tmp_path, {"lr": 1.0}, overwrite=False)


def test_a_stopped_run_of_an_earlier_version_is_continued_while_its_base_is_unchanged(
    base: str, stopped: Path, tmp_path: Path
) -> None:
    for later in (-1e9, 1e9):
        folder = shutil.copytree(stopped, tmp_path / str(later))
        path = folder / ".prm.run" / "settings.json"
        settings = json.loads(path.read_bytes())
        path.write_text(json.dumps({key: settings[key] for key in settings if "_content" not in key}))
        os.utime(path, (time.time() + later, time.time() + later))
        if later < 0:
            with pytest.raises(UserError, match="of an earlier version of erprm, and its base or format may"):
                run(base, folder / "prm")
        else:
            assert run(base, folder / "prm")[0]["step"] == 3


def test_the_files_of_tensorboard_stay_with_the_model(base: str, tmp_path: Path) -> None:
    run(base, tmp_path / "prm", report_to="tensorboard")
    assert [path.name.split(".")[2] for path in (tmp_path / "prm" / "runs").iterdir()] == ["tfevents"]
    assert [path.name for path in tmp_path.iterdir()] == ["prm"]


@pytest.mark.parametrize("parent", ["/proc/erprm", "{file}"])
def test_a_run_folder_that_cannot_be_made_is_one_line(parent: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = Path(parent.replace("{file}", str(tmp_path / "file"))) / ".prm.run"
    for make in (lambda: begin_run(run, {}, False), lambda: ExampleStore(run / "data").save()):
        with pytest.raises(UserError, match=f"{run}.*: (No such file or|Not a) directory"):
            make()


def test_a_model_made_with_other_settings_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "erprm.json").write_text('{"settings": {"lr": 0.5}, "result": {}}')
    with pytest.raises(
        UserError, match="was made with lr 0.5, not 0.25; --overwrite replaces it, another -o "
    ):
        finished(tmp_path, {"lr": 0.25}, overwrite=False)


def test_only_what_a_training_made_is_deleted_from_its_run_folder(tmp_path: Path) -> None:
    folder = tmp_path / ".prm.run"
    (folder / "data").mkdir(parents=True)
    (folder / "settings.json").write_text("{}")
    (folder / "thesis.txt").write_text("mine")
    (folder / "checkpoint-1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    forget(folder)
    assert os.listdir(folder) == ["thesis.txt"] and (tmp_path / "elsewhere").is_dir()


def test_run_folders_and_examples_that_cannot_be_made_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    output = tmp_path / "file" / "prm"
    with pytest.raises(UserError, match="file/.prm.run: Not a directory"), locked_run(output):
        pass
    with pytest.raises(UserError, match="file/.prm.run: Not a directory"):
        begin_run(run_folder(output), {}, overwrite=False)
    with pytest.raises(UserError, match="file/examples: Not a directory"):
        ExampleStore(tmp_path / "file" / "examples").save()


@pytest.mark.parametrize(
    "name",
    [
        "data/train.arrow",
        "data/.stats.json.erprm.tmp",
        ".settings.json.erprm.tmp",
        "checkpoint-2/trainer_state.json",
    ],
)
def test_a_run_folder_of_a_killed_run_is_used_again(name: str, tmp_path: Path) -> None:
    file = tmp_path / ".prm.run" / name
    file.parent.mkdir(parents=True)
    file.write_text("{")
    with locked_run(tmp_path / "prm"):
        assert file.exists()


@pytest.mark.parametrize("name", ["thesis.txt", "data/thesis", "checkpoint-2/thesis", "seal.json"])
def test_a_run_folder_with_files_of_other_making_is_left_alone(name: str, tmp_path: Path) -> None:
    file = tmp_path / ".prm.run" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    told = "run holds what erprm did not write there"
    with pytest.raises(UserError, match=told), locked_run(tmp_path / "prm"):
        pass
    assert file.read_text() == "mine"
    assert [path for path in (tmp_path / ".prm.run").rglob("*") if path.is_file()] == [file]
