"""The script for Ray on a cluster of three nodes, one of which is lost."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.cluster.policy import ENVIRONMENT, PIPELINES, has_rows, logs, rows

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (pip install ray)")

ADDRESSES = [f"10.9.0.{number}" for number in (1, 2, 3)]
PORT = 6379
SHARDS = 6


@pytest.fixture
def ray_nodes(tmp_path: Path) -> Iterator[None]:
    """Start a node with one processor on each of three hosts."""
    for number, address in enumerate(ADDRESSES):
        words = ["--node-ip-address", address, "--num-cpus", "1", "--disable-usage-stats"]
        if number:
            words += ["--address", f"{ADDRESSES[0]}:{PORT}"]
        else:
            words += ["--head", "--port", str(PORT), "--include-dashboard=false"]
        ray("start", *words)
    yield
    ray("stop", "--force")


def ray(*words: str) -> None:
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    subprocess.run(command, env=os.environ | ENVIRONMENT, check=True)


def lose(address: str) -> None:
    """Kill all processes of a node, its tasks included."""
    raylets = [
        process
        for process in psutil.process_iter(["cmdline"])
        if f"--node_ip_address={address}" in process.info["cmdline"]
    ]
    assert raylets
    for process in [child for raylet in raylets for child in raylet.children(recursive=True)] + raylets:
        process.kill()


def test_a_lost_node_loses_no_row(
    ray_nodes: None, problems: Path, labels_of_one_machine: list[bytes], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = [PIPELINES / "ray_shards.py", problems, run, "-m", "tiny", "-t", "tiny"]
    words += ["--gpus", "0", "--shards", SHARDS]
    with (tmp_path / "driver.log").open("wb") as log:
        driver = subprocess.Popen(
            [sys.executable, *map(str, words)], env=os.environ | ENVIRONMENT, stdout=log, stderr=log
        )
    while not has_rows(run / "solutions-2.jsonl") and driver.poll() is None:
        time.sleep(0.1)
    lose(ADDRESSES[2])
    assert driver.wait() == 0, logs(tmp_path)
    assert rows(run / "labels.jsonl") == labels_of_one_machine
