"""`erprm train` over two and four hosts, started by accelerate and by torchrun; one host is killed."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
import psutil
import pytest

from erprm_cli.training.distributed import accelerate_config
from erprm_cli.training.run_folder import checkpoints, run_folder
from tests.training.conftest import base, fsdp2_on_cpu, rows_file, unbroken  # noqa: F401  # fixtures
from tests.training.runs import Log, assert_close, assert_equal_bits, command

PORT = 29511
ENDS_WITHIN_S = 60


class Hosts:
    """One training on several hosts: a launcher with one process on each."""

    def __init__(self, launchers: Sequence[list[str]], folder: Path) -> None:
        self.logs = [folder / f"host{rank}.log" for rank in range(len(launchers))]
        self.output = folder / "log.jsonl"
        self.processes = []
        for launcher, log in zip(launchers, self.logs, strict=True):
            with log.open("wb") as stderr, self.output.open("ab") as stdout:
                self.processes.append(
                    subprocess.Popen(
                        launcher,
                        stdout=stdout,
                        stderr=stderr,
                        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
                    )
                )

    def wait(self) -> list[int]:
        return [process.wait() for process in self.processes]

    def kill(self, rank: int) -> None:
        """Kill all processes of a host. Those that the launcher has started are in sessions of their own."""
        launcher = psutil.Process(self.processes[rank].pid)
        for process in (launcher, *launcher.children(recursive=True)):
            process.kill()
        self.processes[rank].wait()

    def rows(self) -> Log:
        return [orjson.loads(line) for line in self.output.read_bytes().splitlines()]


def by_accelerate(config: str, count: int, words: list[str]) -> list[list[str]]:
    """Return the command of each of `count` hosts; `words` run `python -m erprm_cli train`."""
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    start += ["--num_machines", str(count), "--num_processes", str(count)]
    start += ["--main_process_ip", "node1", "--main_process_port", str(PORT)]
    return [[*start, "--machine_rank", str(rank), *words[1:]] for rank in range(count)]


def by_torchrun(count: int, words: list[str]) -> list[list[str]]:
    start = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(count), "--nproc-per-node", "1"]
    start += ["--master-addr", "node1", "--master-port", str(PORT)]
    return [[*start, "--node-rank", str(rank), *words[1:]] for rank in range(count)]


def assert_losses_of_one_process(log: Log, expected: Log) -> None:
    """Compare log rows, one every two steps, with those of one process, one every step."""
    losses = {row["step"]: row["loss"] for row in expected}
    assert [row["step"] for row in log] == [2, 4, 6, 8, 10, 12, 12]
    for row in log:
        assert row["loss"] == pytest.approx((losses[row["step"] - 1] + losses[row["step"]]) / 2, rel=1e-4)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("sharding", ["multi-cpu", "fsdp2"])
def test_hosts_train_as_one_and_continue_when_one_is_killed(
    sharding: str,
    count: int,
    base: str,  # noqa: F811
    rows_file: Path,  # noqa: F811
    unbroken: tuple[Path, Log],  # noqa: F811
    fsdp2_on_cpu: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    config = fsdp2_on_cpu if sharding == "fsdp2" else str(accelerate_config(sharding))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()

    hosts = Hosts(by_accelerate(config, count, command(base, rows_file, whole / "prm")), whole)
    assert hosts.wait() == [0] * count, hosts.logs[0].read_text()
    assert_losses_of_one_process(hosts.rows(), unbroken[1])
    assert_close(whole / "prm", unbroken[0])

    launchers = by_accelerate(config, count, command(base, rows_file, broken / "prm"))
    hosts = Hosts(launchers, broken)
    while not checkpoints(run_folder(broken / "prm")):
        time.sleep(0.005)
    hosts.kill(count - 1)
    killed = time.monotonic()
    statuses = hosts.wait()
    print(f"{sharding}, {count} hosts: the others ended after {time.monotonic() - killed:.1f} s")
    assert time.monotonic() - killed < ENDS_WITHIN_S
    assert not (broken / "prm").exists()
    said = hosts.logs[0].read_text()
    assert all(statuses)
    assert "exitcode  : 4" in said  # what the launcher, whose own status is 1, says of `erprm train`
    assert "lost the connection to another process of this training" in said
    assert "the same command continues from the last checkpoint" in said

    hosts = Hosts(launchers, broken)
    assert hosts.wait() == [0] * count, hosts.logs[0].read_text()
    assert "continuing from" in hosts.logs[0].read_text()
    # Two gradients have one sum. That of four differs in its last bits if they are added in another order.
    (assert_equal_bits if count == 2 else assert_close)(broken / "prm", whole / "prm")


def test_torchrun_starts_it_too(
    base: str,  # noqa: F811
    rows_file: Path,  # noqa: F811
    unbroken: tuple[Path, Log],  # noqa: F811
    tmp_path: Path,
) -> None:
    hosts = Hosts(by_torchrun(2, command(base, rows_file, tmp_path / "prm")), tmp_path)
    assert hosts.wait() == [0, 0], hosts.logs[0].read_text()
    assert_losses_of_one_process(hosts.rows(), unbroken[1])
