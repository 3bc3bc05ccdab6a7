"""Two ways of spreading the work over Ray, the shipped script and Ray Data: a node is lost, but no row."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import jsonlines
import psutil
import pytest

from tests.cluster.policy import ENVIRONMENT, PIPELINES, VLLM_ON_CPU, has_rows, logs, rows

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (pip install ray)")

ADDRESSES = [f"10.9.0.{number}" for number in (1, 2, 3)]
PORT = 6379
SHARDS = 6
RAY_DATA = Path(__file__).parents[2] / "benchmarks" / "ray_data_rollouts.py"
RAY_ENVIRONMENT = ENVIRONMENT | VLLM_ON_CPU | {"RAY_AUTH_MODE": "disabled"}


@contextmanager
def ray_nodes(count: int, num_cpus: int) -> Iterator[None]:
    """Start a node with `num_cpus` processors, by its own account, on each of the first hosts."""
    for number, address in enumerate(ADDRESSES[:count]):
        words = ["--node-ip-address", address, "--num-cpus", str(num_cpus), "--disable-usage-stats"]
        if number:
            words += ["--address", f"{ADDRESSES[0]}:{PORT}"]
        else:
            words += ["--head", "--port", str(PORT), "--include-dashboard=false"]
        ray("start", *words)
    try:
        yield
    finally:
        ray("stop", "--force")


def ray(*words: str) -> None:
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    subprocess.run(command, env=os.environ | RAY_ENVIRONMENT, check=True)


def start(log: Path, *words: object, **variables: str) -> subprocess.Popen[bytes]:
    """Start a script of Python that uses the cluster."""
    command = [sys.executable, *map(str, words)]
    with log.open("wb") as output:
        environment = os.environ | RAY_ENVIRONMENT | variables
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def raylets(address: str) -> list[psutil.Process]:
    """Return the daemon of a node."""
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if f"--node_ip_address={address}" in (process.info["cmdline"] or ())
    ]
    assert found
    return found


def lose(address: str) -> None:
    """Kill all processes of a node, its tasks included."""
    daemons = raylets(address)
    for process in [child for daemon in daemons for child in daemon.children(recursive=True)] + daemons:
        process.kill()


def test_shards_as_tasks_lose_no_row(
    problems: Path, labels_of_one_machine: list[bytes], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with ray_nodes(3, num_cpus=1):
        words = ["-m", "tiny", "-t", "tiny", "--gpus", 0, "--shards", SHARDS]
        driver = start(tmp_path / "driver.log", PIPELINES / "ray_shards.py", problems, run, *words)
        while not has_rows(run / "solutions-2.jsonl") and driver.poll() is None:
            time.sleep(0.1)
        lose(ADDRESSES[2])
        assert driver.wait() == 0, logs(tmp_path)
    assert rows(run / "labels.jsonl") == labels_of_one_machine


@pytest.mark.skipif(
    None in map(find_spec, ("vllm", "jsonref", "pandas")),
    reason="vllm or Ray Data is not installed (pip install vllm 'ray[data]' jsonref)",
)
def test_ray_data_loses_no_row(problems: Path, tmp_path: Path) -> None:
    log = tmp_path / "driver.log"
    with ray_nodes(2, num_cpus=4):
        words = [problems, tmp_path, PIPELINES.parent / "tiny", 2]
        driver = start(log, RAY_DATA, *words, RAY_DEDUP_LOGS="0")
        while not has_finished_a_batch(ADDRESSES[1], log) and driver.poll() is None:
            time.sleep(0.05)
        lose(ADDRESSES[1])
        assert driver.wait() == 0, logs(tmp_path)
    with jsonlines.open(problems) as reader:
        ids = [row["id"] for row in reader]
    with jsonlines.open(tmp_path / "rollouts-0.jsonl") as reader:
        solutions = [*reader]
    assert [row["id"] for row in solutions] == [name for name in ids for _ in range(15)]
    for row in solutions:
        assert [len(texts) for texts in row["rollouts"]] == [16] * (len(row["steps"]) - 1) + [1]


def has_finished_a_batch(address: str, log: Path) -> bool:
    """Tell whether an engine of a node has generated something, by what the log says of its process."""
    processes = [child.pid for daemon in raylets(address) for child in daemon.children()]
    finished = set(re.findall(r"pid=(\d+).*Elapsed time for batch", log.read_text()))
    return not finished.isdisjoint(map(str, processes))
