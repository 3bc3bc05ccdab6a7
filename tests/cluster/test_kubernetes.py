"""The manifests for Kubernetes on four hosts, one of which is lost or drained while they run."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.training.run_folder import checkpoints, run_folder
from tests.cluster.conftest import NODES
from tests.cluster.kubernetes import IMAGE, VOLUME, Kubernetes
from tests.cluster.policy import ENVIRONMENT, PIPELINES, has_rows, rows
from tests.training.conftest import base, rows_file  # noqa: F401  # fixtures
from tests.training.runs import assert_close, run

LOSSES = ("lost", "drained")
SHARDS, PODS = 6, 3  # of the training, so that one host is spare
EPOCHS, LR = 30, 1e-4  # long enough to drain a host, and so gently that rounding stays small
# What a manifest tells its user to change, and what machines without GPUs need.
OURS = {"IMAGE": IMAGE, "CLAIM": "data"}
OF_SHARDS = OURS | {
    "completions: 16": f"completions: {SHARDS}",
    "parallelism: 16": "parallelism: 4",
    "(JOB_COMPLETION_INDEX)/16": f"(JOB_COMPLETION_INDEX)/{SHARDS}",
    "MODEL": "tiny",
    "TEMPLATE": "tiny",
}
OF_TRAINING = OURS | {
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


@contextmanager
def applied(kubernetes: Kubernetes, name: str, changes: Mapping[str, str], data: Path) -> Iterator[None]:
    """Apply a shipped manifest with `changes`, whose volume is the folder `data`; delete it in the end."""
    _, first, text = (PIPELINES / name).read_text().partition("apiVersion")
    for shipped, ours in changes.items():
        assert shipped in text
        text = text.replace(shipped, ours)
    manifests = f"{VOLUME.format(folder=data)}---\n{first}{text}"
    kubernetes.kubectl("apply", "-f", "-", stdin=manifests)
    yield
    kubernetes.kubectl("delete", "-f", "-", stdin=manifests)


@pytest.mark.parametrize("loss", LOSSES)
def test_shards_give_the_rows_of_one_machine_though_a_host_is(
    loss: str,
    kubernetes: Kubernetes,
    problems: Path,
    labels_of_one_machine: list[bytes],
    tmp_path: Path,
) -> None:
    shutil.copy(problems, tmp_path / "problems.jsonl")
    with applied(kubernetes, "kubernetes_shards.yaml", OF_SHARDS, tmp_path):
        kubernetes.wait_until(lambda: has_rows(tmp_path / "solutions-2.jsonl"), interval_s=0.05)
        host = kubernetes.pods("erprm-shards")[2]["spec"]["nodeName"]
        take_away(kubernetes, host, loss)
        assert not has_rows(tmp_path / "rollouts-2.jsonl")
        kubernetes.wait_until(lambda: succeeded(kubernetes, "erprm-shards") == SHARDS)
        assert kubernetes.pods("erprm-shards")[2]["spec"]["nodeName"] != host
        bring_back(kubernetes, host, loss)
    join = "cat rollouts-*.jsonl | erprm label --eta 2 -o labels.jsonl"
    subprocess.run(join, shell=True, cwd=tmp_path, env=os.environ | ENVIRONMENT, check=True)
    assert rows(tmp_path / "labels.jsonl") == labels_of_one_machine


@pytest.mark.parametrize("loss", LOSSES)
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
    with applied(kubernetes, "kubernetes_train.yaml", OF_TRAINING, tmp_path):
        kubernetes.wait_until(lambda: bool(checkpoints(run_folder(tmp_path / "prm"))), interval_s=0.005)
        host = kubernetes.pods("erprm-train")[PODS - 1]["spec"]["nodeName"]
        before = time.monotonic()
        take_away(kubernetes, host, loss)
        assert not (tmp_path / "prm").exists()

        kubernetes.wait_until(lambda: bool(restarts(kubernetes.pods("erprm-train")[0])))
        print(f"{loss}: started again after {time.monotonic() - before:.0f} s", end=", ")
        ended = logs(kubernetes, "--previous")
        assert "exitcode  : 4" in ended  # what the launcher, whose own status is 1, says of `erprm train`
        assert "lost the connection to another process of this training" in ended
        kubernetes.wait_until(lambda: succeeded(kubernetes, "erprm-train") == PODS)
        print(f"finished after {time.monotonic() - before:.0f} s")
        pods = kubernetes.pods("erprm-train")
        assert host not in {pod["spec"]["nodeName"] for pod in pods.values()}
        assert "continuing from" in logs(kubernetes)
        assert_close(tmp_path / "prm", of_one_process)
        bring_back(kubernetes, host, loss)


def take_away(kubernetes: Kubernetes, host: str, loss: str) -> None:
    if loss == "lost":
        kubernetes.lose(host)
    else:
        kubernetes.kubectl("drain", host, "--ignore-daemonsets", "--delete-emptydir-data")


def bring_back(kubernetes: Kubernetes, host: str, loss: str) -> None:
    if loss == "lost":
        kubernetes.start_node(host)
    else:
        kubernetes.kubectl("uncordon", host)


def succeeded(kubernetes: Kubernetes, job: str) -> int:
    """Return how many pods of a job have finished."""
    count: int = kubernetes.get("job", job)["status"].get("succeeded", 0)
    return count


def restarts(pod: dict[str, Any]) -> int:
    return sum(container["restartCount"] for container in pod["status"].get("containerStatuses", []))


def logs(kubernetes: Kubernetes, *flags: str) -> str:
    """Return what the first pod of the training has written."""
    return kubernetes.kubectl("logs", *flags, kubernetes.pods("erprm-train")[0]["metadata"]["name"])
