"""Clusters on one machine: `make cluster-test` runs these tests where node1 to node4 are hosts (hosts.sh)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.policy import ENVIRONMENT, label_on_one_machine, rows, write_problems
from tests.cluster.slurm import Slurm

NODES = ("node1", "node2", "node3", "node4")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "ERPRM_CLUSTER" not in os.environ:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs root and hosts: `make cluster-test`"))


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A SLURM cluster of the four hosts, each with one GPU by its own account."""
    cluster = Slurm(tmp_path_factory.mktemp("slurm"), NODES, ENVIRONMENT)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    write_problems(path)
    return path


@pytest.fixture(scope="session")
def labels_of_one_machine(problems: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return rows(label_on_one_machine(problems, tmp_path_factory.mktemp("one-machine")))
