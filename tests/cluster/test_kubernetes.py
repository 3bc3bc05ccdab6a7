"""kubernetes_train.yaml on four hosts of which one is lost or drained: it trains as one process."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.training.run_folder import checkpoints, run_folder
from tests.cluster.conftest import NODES
from tests.cluster.kubernetes import IMAGE, VOLUME, Kubernetes
from tests.cluster.policy import ENVIRONMENT, PIPELINES
from tests.training.conftest import base, rows_file  # noqa: F401  # fixtures
from tests.training.runs import assert_close, run

JOB, PODS = "erprm-train", 3  # so that one host is spare
EPOCHS, LR = 30, 1e-4  # long enough to drain a host, and so gently that rounding stays small
# What the manifest tells its user to change, and what machines without GPUs need.
CHANGES = {
    "IMAGE": IMAGE,
    "CLAIM": "data",
    "completions: 4": f"completions: {PODS}",
    "parallelism: 4": f"parallelism: {PODS}",
    "--num_machines 4": f"--num_machines {PODS}",
    "--num_processes 32": f"--num_processes {PODS}",
    "fsdp2.yaml": "multi-cpu.yaml",
    "meta-llama/Llama-3.1-8B": f"/data/base --lr {LR} --epochs {EPOCHS} --batch-size 13 --save-steps 2",
}


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    folder = tmp_path_factory.mktemp("kubernetes")
    try:
        cluster = Kubernetes(folder, NODES, ENVIRONMENT | {"HOME": "/tmp"})
    except FileNotFoundError as error:
        pytest.skip(f"programs of Kubernetes that are not installed: {error}")
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def of_one_process(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    output = tmp_path_factory.mktemp("one-process") / "prm"
    run(base, output, epochs=float(EPOCHS), lr=LR)
    return output


def manifest() -> str:
    comments, first, text = (PIPELINES / "kubernetes_train.yaml").read_text().partition("apiVersion")
    for shipped, ours in CHANGES.items():
        assert shipped in text
        text = text.replace(shipped, ours)
    return first + text


@pytest.mark.parametrize("loss", ["lost", "drained"])
def test_a_job_trains_as_one_process_though_a_host_is(
    loss: str,
    kubernetes: Kubernetes,
    of_one_process: Path,
    base: str,  # noqa: F811
    rows_file: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    shutil.copytree(base, tmp_path / "base")
    shutil.copy(rows_file, tmp_path / "labels.jsonl")
    manifests = f"{VOLUME.format(folder=tmp_path)}---\n{manifest()}"
    kubernetes.kubectl("apply", "-f", "-", stdin=manifests)
    kubernetes.wait_until(lambda: len(kubernetes.pods(JOB)) == PODS)
    kubernetes.wait_until(lambda: all("nodeName" in pod["spec"] for pod in kubernetes.pods(JOB).values()))
    host = kubernetes.pods(JOB)[PODS - 1]["spec"]["nodeName"]
    kubernetes.wait_until(lambda: bool(checkpoints(run_folder(tmp_path / "prm"))), interval_s=0.005)
    before = time.monotonic()
    if loss == "lost":
        kubernetes.lose(host)
    else:
        kubernetes.kubectl("drain", host, "--ignore-daemonsets", "--delete-emptydir-data")
    assert not (tmp_path / "prm").exists()

    kubernetes.wait_until(lambda: bool(restarts(kubernetes.pods(JOB)[0])))
    print(f"{loss}: started again after {time.monotonic() - before:.0f} s", end=", ")
    ended = kubernetes.kubectl("logs", "--previous", name(kubernetes.pods(JOB)[0]))
    assert "exitcode  : 4" in ended  # what the launcher, whose own status is 1, says of `erprm train`
    assert "lost the connection to another process of this training" in ended
    kubernetes.wait_until(lambda: kubernetes.get("job", JOB)["status"].get("succeeded") == PODS)
    print(f"finished after {time.monotonic() - before:.0f} s")
    pods = kubernetes.pods(JOB)
    assert host not in {pod["spec"]["nodeName"] for pod in pods.values()}
    assert "continuing from" in kubernetes.kubectl("logs", name(pods[0]))
    assert_close(tmp_path / "prm", of_one_process)

    if loss == "lost":
        kubernetes.start_node(host)
    else:
        kubernetes.kubectl("uncordon", host)
    kubernetes.kubectl("delete", "-f", "-", stdin=manifests)


def name(pod: dict[str, Any]) -> str:
    found: str = pod["metadata"]["name"]
    return found


def restarts(pod: dict[str, Any]) -> int:
    return sum(container["restartCount"] for container in pod["status"].get("containerStatuses", []))
