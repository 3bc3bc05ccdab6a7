"""Runs that are stopped and continued, and the processes of one run."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from safetensors.torch import load_file

from erprm_cli.errors import UsageError, UserError
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training import distributed
from erprm_cli.training.config import PolicyTrainingConfig, PrmTrainingConfig
from erprm_cli.training.distributed import accelerate_config, check_packages, spread_by
from erprm_cli.training.prm_task import PrmTask
from erprm_cli.training.run_folder import checkpoints, run_folder
from erprm_cli.training.train import train_policy, train_prm
from tests.tiny_models import save_model, solution_rows

FSDP2_ON_CPU = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
mixed_precision: 'no'
num_machines: 1
machine_rank: 0
use_cpu: true
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_cpu_ram_efficient_loading: true
  fsdp_state_dict_type: SHARDED_STATE_DICT
"""


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "labels.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in solution_rows(48, labels=True)))
    return path


def run(base: str, output: Path, kill_at: int | None = None, **changes: Any) -> list[dict[str, Any]]:
    """Train 12 steps with a checkpoint every 2, or die at a step; return the log."""
    settings: dict[str, Any] = {"epochs": 3.0, "lr": 1e-2, "batch_size": 13, "log_every": 1, "save_steps": 2}
    log: list[dict[str, Any]] = []

    def record(row: dict[str, Any]) -> None:
        log.append(row)
        if row["step"] == kill_at:
            raise Killed

    config = PrmTrainingConfig(base=base, output=output, **settings | changes)
    train_prm(solution_rows(48, labels=True), config, record, Reporter("train"))
    return log


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_equal_bits(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def unbroken(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    output = tmp_path_factory.mktemp("unbroken") / "prm"
    return output, run(base, output)


@pytest.mark.parametrize("kill_at", [1, 7, 8])  # before any checkpoint, in an epoch, at its end
def test_a_stopped_run_continues_to_the_same_bits(
    base: str, tmp_path: Path, unbroken: tuple[Path, list[dict[str, Any]]], kill_at: int
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


def test_a_half_written_checkpoint_is_told_of_and_left_out(
    base: str,
    tmp_path: Path,
    unbroken: tuple[Path, list[dict[str, Any]]],
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
    assert "the checkpoint of step 6 is half written and left out; continuing from step 4" in (
        capsys.readouterr().err
    )
    assert log[0]["step"] == 5
    assert_equal_bits(tmp_path / "prm", unbroken[0])


def test_a_stopped_run_is_not_continued_with_other_settings(base: str, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(base, tmp_path / "prm", kill_at=5)
    with pytest.raises(UserError, match="a stopped run with lr 0.01, not 0.02; --overwrite"):
        run(base, tmp_path / "prm", lr=0.02)
    log = run(base, tmp_path / "prm", lr=0.02, overwrite=True)
    assert log[0]["step"] == 1


def flags(base: str, rows_file: Path, output: Path) -> list[str]:
    words = f"{rows_file} --base {base} -o {output} --lr 1e-2 --epochs 3 --batch-size 13 --save-steps 2"
    return words.split()


def test_a_killed_process_continues(base: str, rows_file: Path, tmp_path: Path, unbroken: Any) -> None:
    command = [sys.executable, "-m", "erprm_cli", "train", *flags(base, rows_file, tmp_path / "prm")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not checkpoints(run_folder(tmp_path / "prm")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not (tmp_path / "prm").exists():  # it was killed in time
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "continuing from" in done.stderr
    assert_equal_bits(tmp_path / "prm", unbroken[0])


@pytest.fixture(scope="module")
def zero3_on_cpu(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the shipped configuration, changed as a CPU needs it."""
    text = accelerate_config("zero3").read_text()
    for before, after in (("use_cpu: false", "use_cpu: true"), ("bf16", "'no'")):
        assert before in text
        text = text.replace(before, after)
    path = tmp_path_factory.mktemp("accelerate") / "zero3.yaml"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def fsdp2_on_cpu(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("accelerate") / "fsdp2.yaml"
    path.write_text(FSDP2_ON_CPU)
    return str(path)


@pytest.mark.parametrize("how", ["multi-cpu", "fsdp2", "zero3"])
def test_two_processes_train_as_one_and_continue_when_killed(
    base: str,
    rows_file: Path,
    tmp_path: Path,
    unbroken: tuple[Path, list[dict[str, Any]]],
    how: str,
    fsdp2_on_cpu: str,
    zero3_on_cpu: str,
) -> None:
    if how == "zero3":
        pytest.importorskip("deepspeed")
    config = {"multi-cpu": how, "fsdp2": fsdp2_on_cpu, "zero3": zero3_on_cpu}[how]
    command = [sys.executable, "-m", "erprm_cli", "train", *flags(base, rows_file, tmp_path / "prm")]
    command += ["--num-processes", "2", "--accelerate-config", config]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    log = [orjson.loads(line) for line in done.stdout.splitlines()]
    expected = {row["step"]: row for row in unbroken[1]}
    for row in log:
        assert row["loss"] == pytest.approx(
            sum(expected[step]["loss"] for step in (row["step"] - 1, row["step"])) / 2, rel=1e-4
        )
        assert row["grad_norm"] == pytest.approx(expected[row["step"]]["grad_norm"], rel=1e-3)
    ours, theirs = weights(tmp_path / "prm"), weights(unbroken[0])
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=2e-3), name
    if how == "multi-cpu":  # what it would show is shown by the others
        return

    command[command.index("-o") + 1] = str(tmp_path / "again")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not checkpoints(run_folder(tmp_path / "again")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    wait_for_the_end_of(run_folder(tmp_path / "again") / "job.json")
    assert not (tmp_path / "again").exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "continuing from" in done.stderr, done.stderr
    assert_equal_bits(tmp_path / "again", tmp_path / "prm")


def wait_for_the_end_of(job: Path) -> None:
    """Wait until no process works on `job`: they end with the command that started them."""
    if not Path("/proc/self/cmdline").exists():
        time.sleep(2)
        return
    deadline = time.monotonic() + 5
    while working(job):
        assert time.monotonic() < deadline, "a process outlives the command"
        time.sleep(0.05)


def working(job: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_text())
    return [command for command in found if str(job) in command]


def test_adapters_are_merged_where_weights_are_spread(
    base: str, rows_file: Path, tmp_path: Path, fsdp2_on_cpu: str
) -> None:
    pytest.importorskip("peft")
    settings: dict[str, Any] = {"kind": "head", "lora_rank": 4, "merge_lora": True}
    run(base, tmp_path / "one", **settings)
    run(base, tmp_path / "two", num_processes=2, accelerate_config=fsdp2_on_cpu, **settings)
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=2e-3), name
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(ours[name], weights(Path(base))[name])


def test_accelerate_starts_the_module_itself(
    base: str, rows_file: Path, tmp_path: Path, unbroken: tuple[Path, list[dict[str, Any]]]
) -> None:
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(accelerate_config("multi-cpu")), "--num_processes", "2"]
    command += ["-m", "erprm_cli", "train", *flags(base, rows_file, tmp_path / "prm")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert rows[-1]["model"] == str(tmp_path / "prm")  # one process speaks
    assert done.stderr.count(f"erprm train: {tmp_path / 'prm'}: 48 solutions") == 1
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12, 12]
    assert rows[-1]["grad_norm"] == pytest.approx(unbroken[1][-1]["grad_norm"], rel=1e-3)


def test_an_error_of_a_process_is_the_error_of_the_command(base: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss is nan at step .*; try a smaller --lr"):
        run(base, tmp_path / "prm", num_processes=1, lr=1e30, save_steps=0)
    assert not list(tmp_path.iterdir())


def test_a_policy_is_trained_by_two_processes_too(base: str, tmp_path: Path) -> None:
    template = PolicyTemplate("plain", "Question: {problem}\nAnswer:\n")
    settings: dict[str, Any] = {"epochs": 1.0, "lr": 1e-2, "batch_size": 16, "log_every": 1}
    logs: list[list[Any]] = []
    for name, number in (("one", None), ("two", 2)):
        config = PolicyTrainingConfig(base=base, output=tmp_path / name, num_processes=number, **settings)
        logs.append([])
        train_policy(solution_rows(32), template, config, logs[-1].append)
    assert [row["loss"] for row in logs[1]] == pytest.approx([row["loss"] for row in logs[0]], rel=1e-4)


def test_an_unknown_accelerate_configuration_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="there are fsdp2, multi-cpu, multi-gpu, zero2, zero3, or a .yaml"):
        accelerate_config("fsdp3")


def test_an_unknown_optimizer_is_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no optimizer 'adam9000'; there are adamw_torch"):
        run(base, tmp_path / "prm", optim="adam9000")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"report_to": "tensorboard"}, "tensorboard is not installed; --report-to tensorboard needs: pip"),
        ({"report_to": "wandb"}, "wandb is not installed; --report-to wandb needs: pip install wandb"),
        (
            {"report_to": "trackio"},
            "trackio is not installed; --report-to trackio needs: pip install trackio",
        ),
        ({"accelerate_config": "zero3"}, "deepspeed is not installed; --accelerate-config zero3 needs: pip"),
        ({"lora_rank": 4}, r"peft is not installed; --lora-rank needs: pip install 'erprm\[lora\]'"),
    ],
)
def test_a_missing_package_is_told_of_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(distributed, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=reason):
        PrmTask(PrmTrainingConfig(base=str(tmp_path / "no-model"), output=tmp_path / "prm", **changes))


def test_a_folder_named_as_a_package_is_not_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trackio").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    if find_spec("trackio") is None or find_spec("trackio").origin is None:  # type: ignore[union-attr]
        with pytest.raises(UserError, match="trackio is not installed"):
            check_packages(None, report_to="trackio")


@pytest.mark.parametrize("name", ["fsdp2", "multi-cpu", "multi-gpu", "zero2", "zero3"])
def test_accelerate_reads_the_shipped_configurations(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(accelerate_config(name)))
    spread = {"fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}.get(name)
    assert spread_by(name) == spread
    assert loaded.distributed_type == (spread or "MULTI_GPU")


def test_a_file_that_is_no_configuration_of_accelerate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text("- buy milk\n")
    with pytest.raises(UsageError, match="notes.yaml is no configuration of accelerate"):
        spread_by(str(tmp_path / "notes.yaml"))


def test_the_files_of_tensorboard_stay_with_the_model(base: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(base, tmp_path / "prm", report_to="tensorboard")
    assert [path.name.split(".")[2] for path in (tmp_path / "prm" / "runs").iterdir()] == ["tfevents"]
    assert [path.name for path in tmp_path.iterdir()] == ["prm"]
