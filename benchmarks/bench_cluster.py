"""`sample` and `rollout` spread over copies of the model in three ways, and in one process: rows per second.

    pip install 'ray[default,data]' jsonref
    python benchmarks/bench_cluster.py [--only process tasks serve data] [--copies 2]

process    erprm sample and erprm rollout, one process
tasks      templates/pipelines/ray_shards.py: a shard for each of --copies Ray nodes, all on this machine
serve      the same commands as in `process`, with --base-url of vLLM's server with --copies copies
data       ray_data_rollouts.py: vLLM's processor of Ray Data, which generates the same numbers of completions

All of them take the shipped policy, n = 15 and K = 16, and each copy has one thread of torch. `serve` and
`data` have vLLM's engine, the others the one of transformers. ray[llm] is not installed, because it asks for
another vLLM. Each way runs for a few problems and for many. Rates are those of the difference, so starting is
not in them; `start` is the processor time of what does not depend on the number of problems. Processor time
is that of all processes, Ray's and the server's included: it hardly changes if other programs use the
machine, as the rates per second do. Completions are those generated: solutions, and rollouts of prefixes that
differ.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NamedTuple

import orjson
import psutil

TEMPLATES = Path(__file__).parents[1] / "templates"
MODEL = ["-m", str(TEMPLATES / "tiny"), "-t", "tiny"]
FEW, MANY = 8, 28  # problems: their ids are divided equally between 2 shards
START_S, INTERVAL_S = 900, 0.2
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "ERPRM_SAMPLE_MAX_TOKENS": "160",
    "ERPRM_ROLLOUT_MAX_TOKENS": "160",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
# vLLM 0.32 on a CPU crashes if the prompt of a seeded request is read in parts.
SERVE_FLAGS = "--block-size 32 --dtype float32 --enforce-eager --no-enable-chunked-prefill".split()

Run = Callable[[Path, Path], None]  # problems, and the folder of the files that are made


class Measured(NamedTuple):
    """What a run has used and made."""

    seconds: float
    cpu_s: float
    rows: int
    completions: int


def call(*words: object) -> None:
    subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL)


def sample_and_rollout(problems: Path, folder: Path, *flags: object) -> None:
    solutions = folder / "solutions-0.jsonl"
    call("erprm", "sample", problems, *MODEL, *flags, "-n", 15, "-o", solutions)
    call("erprm", "rollout", solutions, *MODEL, *flags, "-k", 16, "-o", folder / "rollouts-0.jsonl")


@contextmanager
def process(_: int) -> Iterator[Run]:
    yield sample_and_rollout


@contextmanager
def ray_nodes(count: int, num_cpus: int) -> Iterator[None]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": num_cpus, "include_dashboard": False})
    for _ in range(count - 1):
        cluster.add_node(num_cpus=num_cpus)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield
    finally:
        cluster.shutdown()


@contextmanager
def tasks(copies: int) -> Iterator[Run]:
    script = TEMPLATES / "pipelines" / "ray_shards.py"
    with ray_nodes(copies, num_cpus=1):
        yield lambda problems, folder: call(
            sys.executable, script, problems, folder, *MODEL, "--gpus", 0, "--shards", copies
        )


@contextmanager
def data(copies: int) -> Iterator[Run]:
    script = Path(__file__).with_name("ray_data_rollouts.py")
    with ray_nodes(copies, num_cpus=4):  # the other stages of Ray Data ask for processors too
        yield lambda problems, folder: call(sys.executable, script, problems, folder, MODEL[1], copies)


@contextmanager
def serve(copies: int) -> Iterator[Run]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", MODEL[1], "--host"]
    command += ["127.0.0.1", "--port", str(port), "--data-parallel-size", str(copies), *SERVE_FLAGS]
    with open("server.log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_S
        while not answers(f"{url}/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start: {Path('server.log').read_text()[-3000:]}")
            time.sleep(1)
        try:
            yield lambda problems, folder: sample_and_rollout(problems, folder, "--base-url", f"{url}/v1")
        finally:
            server.terminate()


def answers(url: str) -> bool:
    with suppress(OSError):
        urllib.request.urlopen(url, timeout=5).close()
        return True
    return False


WAYS: dict[str, Callable[[int], AbstractContextManager[Run]]] = {
    "process": process,
    "tasks": tasks,
    "serve": serve,
    "data": data,
}


class ProcessorTime(Thread):
    """The processor time of all that this process starts, seen every INTERVAL_S until it ends.

    What the parents of ended processes have counted would not do: Ray's daemons count none of them.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seconds: dict[psutil.Process, float] = {}
        self.start()

    def run(self) -> None:
        while True:
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it has ended
                    self._seconds[child] = sum(child.cpu_times()[:2])
            time.sleep(INTERVAL_S)

    def total(self) -> float:
        time.sleep(2 * INTERVAL_S)
        return sum(self._seconds.copy().values())


def measure(run: Run, num_problems: int, used: ProcessorTime) -> Measured:
    """Run a way for the first problems of the shipped policy."""
    with TemporaryDirectory(dir=".") as name:
        folder = Path(name).absolute()
        problems = folder / "problems.jsonl"
        lines = (TEMPLATES / "tiny" / "train.jsonl").read_bytes().splitlines(keepends=True)
        problems.write_bytes(b"".join(lines[:num_problems]))
        begin_cpu, begin = used.total(), time.perf_counter()
        run(problems, folder)
        seconds, cpu_s = time.perf_counter() - begin, used.total() - begin_cpu
        rows = [
            orjson.loads(line)
            for path in folder.glob("rollouts-?.jsonl")
            for line in path.read_bytes().splitlines()
        ]
    return Measured(seconds, cpu_s, len(rows), len(rows) + num_rollouts(rows))


def num_rollouts(rows: list[dict[str, Any]]) -> int:
    """Return the number of completions of different prefixes; the last step of a solution needs none."""
    prefixes = {
        (row["id"], *row["steps"][: step + 1]): len(rewards)
        for row in rows
        for step, rewards in enumerate(row["rollouts"][:-1])
    }
    return sum(prefixes.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--copies", type=int, default=2)
    asked = parser.parse_args()
    os.environ |= ENVIRONMENT
    before, used = Path.cwd(), ProcessorTime()
    columns = ("rows/s", "completions/s", "rows/CPU s", "completions/CPU s", "start CPU s")
    print(f"{'':8} {'copies':>6} {'rows':>5}" + "".join(f" {column:>{len(column)}}" for column in columns))
    for name in asked.only:
        copies = 1 if name == "process" else asked.copies
        with TemporaryDirectory() as folder:
            os.chdir(folder)
            begin_cpu = used.total()
            with WAYS[name](copies) as run:
                open_cpu = used.total() - begin_cpu
                few, many = (measure(run, num_problems, used) for num_problems in (FEW, MANY))
            os.chdir(before)
        seconds, cpu_s, rows, completions = (more - less for more, less in zip(many, few, strict=True))
        start_cpu = open_cpu + few.cpu_s - few.completions * cpu_s / completions
        figures = (rows / seconds, completions / seconds, rows / cpu_s, completions / cpu_s, start_cpu)
        cells = (f" {figure:>{len(column)}.1f}" for figure, column in zip(figures, columns, strict=True))
        print(f"{name:8} {copies:>6} {many.rows:>5}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
