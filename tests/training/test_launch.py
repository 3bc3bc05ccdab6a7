"""The processes of one training."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from erprm_cli.errors import EngineError, UserError
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.training import launch
from erprm_cli.training.config import PolicyTrainingConfig
from erprm_cli.training.distributed import accelerate_config
from erprm_cli.training.launch import job_file
from erprm_cli.training.run_folder import checkpoints, run_folder
from erprm_cli.training.train import train_policy
from tests.tiny_models import solution_rows
from tests.training.runs import Log, assert_close, assert_equal_bits, command, run, weights

pytestmark = pytest.mark.distributed


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


def assert_trained_as_one(log: Log, output: Path, unbroken: tuple[Path, Log]) -> None:
    """Compare the log rows, one every two steps, and the weights with those of one process."""
    assert [row["step"] for row in log] == [2, 4, 6, 8, 10, 12, 12]
    expected = {row["step"]: row for row in unbroken[1]}
    for row in log:
        assert row["loss"] == pytest.approx(
            sum(expected[step]["loss"] for step in (row["step"] - 1, row["step"])) / 2, rel=1e-4
        )
        assert row["grad_norm"] == pytest.approx(expected[row["step"]]["grad_norm"], rel=1e-3)
    assert_close(output, unbroken[0])


@pytest.mark.parametrize("sharding", ["fsdp2", "zero3"])
def test_two_processes_train_as_one_and_continue_when_killed(
    base: str,
    rows_file: Path,
    tmp_path: Path,
    unbroken: tuple[Path, Log],
    sharding: str,
    fsdp2_on_cpu: str,
    zero3_on_cpu: str,
) -> None:
    if sharding == "zero3":
        pytest.importorskip("deepspeed")
    configuration = {"fsdp2": fsdp2_on_cpu, "zero3": zero3_on_cpu}[sharding]
    flags = ("--num-processes", "2", "--accelerate-config", configuration)
    words = command(base, rows_file, tmp_path / "prm", *flags)
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    log = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert_trained_as_one(log, tmp_path / "prm", unbroken)

    words = command(base, rows_file, tmp_path / "again", *flags)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not checkpoints(run_folder(tmp_path / "again")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    wait_for_the_end_of(job_file(tmp_path / "again"))
    assert not (tmp_path / "again").exists()
    done = subprocess.run(words, capture_output=True, text=True)
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
    return [line for line in found if str(job) in line]


def test_accelerate_can_start_the_command_itself(
    base: str, rows_file: Path, tmp_path: Path, unbroken: tuple[Path, Log]
) -> None:
    words = [sys.executable, "-m", "accelerate.commands.launch"]
    words += ["--config_file", str(accelerate_config("multi-cpu")), "--num_processes", "2"]
    words += command(base, rows_file, tmp_path / "prm")[1:]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    log = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert log[-1]["model"] == str(tmp_path / "prm")  # one process reports
    assert done.stderr.count(f"erprm train: {tmp_path / 'prm'}: 48 solutions") == 1
    assert_trained_as_one(log, tmp_path / "prm", unbroken)


def test_adapters_are_merged_where_weights_are_sharded(base: str, tmp_path: Path, fsdp2_on_cpu: str) -> None:
    pytest.importorskip("peft")
    settings: dict[str, Any] = {"kind": "head", "lora_rank": 4, "merge_lora": True}
    run(base, tmp_path / "one", **settings)
    run(base, tmp_path / "two", num_processes=2, accelerate_config=fsdp2_on_cpu, **settings)
    assert_close(tmp_path / "two", tmp_path / "one")
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(weights(tmp_path / "two")[name], weights(Path(base))[name])


def test_an_error_of_a_process_is_the_error_of_the_command(base: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss is nan at step .*; try a smaller --lr"):
        run(base, tmp_path / "prm", num_processes=1, lr=1e30, save_steps=0)
    assert not list(tmp_path.iterdir())


def test_processes_that_end_without_a_result_are_an_engine_error(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "WORKER", "erprm_cli.nosuch")
    with pytest.raises(
        EngineError, match="the training processes ended with status 1, see above; the same com"
    ):
        run(base, tmp_path / "prm", num_processes=1)


def test_a_policy_is_trained_by_two_processes_too(base: str, tmp_path: Path) -> None:
    template = PolicyTemplate("plain", "Question: {problem}\nAnswer:\n")
    settings: dict[str, Any] = {"epochs": 1.0, "lr": 1e-2, "batch_size": 16, "log_every": 1}
    logs: list[list[Any]] = []
    for name, more in (("one", {}), ("two", {"num_processes": 2, "accelerate_config": "multi-cpu"})):
        config = PolicyTrainingConfig(base=base, output=tmp_path / name, **settings | more)
        logs.append([])
        train_policy(solution_rows(32), template, config, logs[-1].append)
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in logs[1]] == pytest.approx([row[name] for row in logs[0]], rel=1e-3)
    assert [row["loss"] for row in logs[1]] == pytest.approx([row["loss"] for row in logs[0]], rel=1e-4)
    assert_close(tmp_path / "two", tmp_path / "one")
