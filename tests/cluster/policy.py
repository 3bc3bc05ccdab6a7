"""The small run of all clusters: tiny on a few problems, and the same on one machine."""

import os
import subprocess
import sys
from pathlib import Path

PIPELINES = Path(__file__).parents[2] / "templates" / "pipelines"
NUM_PROBLEMS = 14  # so that each shard has some
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "ERPRM_SAMPLE_MAX_TOKENS": "160",
    "ERPRM_ROLLOUT_MAX_TOKENS": "160",
}
VLLM_ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}
ON_ONE_MACHINE = """
erprm sample "$1" -m tiny -t tiny -n 15 -o solutions.jsonl
erprm rollout solutions.jsonl -m tiny -t tiny -k 16 -o rollouts.jsonl
erprm label rollouts.jsonl --eta 2 -o labels.jsonl
"""


def write_problems(path: Path, count: int = NUM_PROBLEMS) -> None:
    lines = (PIPELINES.parent / "tiny" / "train.jsonl").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:count]))


def label_on_one_machine(problems: Path, folder: Path) -> Path:
    """Run the commands of the scripts in `folder`; return the file of labels."""
    words = ["bash", "-euc", ON_ONE_MACHINE, "one-machine", str(problems)]
    subprocess.run(words, cwd=folder, env=os.environ | ENVIRONMENT, check=True)
    return folder / "labels.jsonl"


def rows(path: Path) -> list[bytes]:
    """Return the rows of a file in an order that does not depend on which was finished first."""
    return sorted(path.read_bytes().splitlines())


def has_rows(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def logs(folder: Path) -> str:
    """Return the ends of the logs in `folder`, for the message of a failure."""
    return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in sorted(folder.glob("*.log")))
