"""`erprm serve` under many clients, against `erprm score`: the same model, the same rows.

    python benchmarks/bench_serve.py [--clients 64] [--problems 40] [--candidates 16] [--threads 1]

Each client sends one solution per request and waits for its scores before it sends the next. The other side
scores all rows with the scorer of `erprm score`, in this process, without reading and writing files. The two
take turns; the median of --runs counts. Both get --threads threads of torch. The clients run on this machine
too, in one process. The model is that of bench_score.py, a small random Llama with a vocabulary of real size.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from statistics import median, quantiles

import httpx2
import torch
from bench_score import make_prm, make_rows  # type: ignore[import-not-found]  # beside this file

from erprm_cli.prm.scorer import Scorer
from erprm_cli.rows.row import Row


def start(folder: str, threads: int) -> tuple[subprocess.Popen[str], str]:
    """Return a server of the PRM in `folder` that listens, and its URL."""
    command = [sys.executable, "-m", "erprm_cli", "serve", "--prm", folder, "--prm-format", "er-prm"]
    server = subprocess.Popen(
        [*command, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"listening on (\S+);", line):
            return server, found[1]
    raise SystemExit("the server did not start")


async def ask(url: str, rows: list[Row], num_clients: int) -> tuple[list[list[float]], list[float], float]:
    """Return the scores of all rows, the seconds of each request, and those of all together."""
    scores: dict[int, list[float]] = {}
    latencies = []
    waiting = iter(enumerate(rows))

    async def client() -> None:
        async with httpx2.AsyncClient(base_url=url, timeout=600) as http:
            for index, row in waiting:
                begin = time.perf_counter()
                answer = await http.post("/v1/score", json={"rows": [row]})
                latencies.append(time.perf_counter() - begin)
                scores[index] = answer.raise_for_status().json()["scores"][0]

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as clients:
        for _ in range(num_clients):
            clients.create_task(client())
    return [scores[index] for index in range(len(rows))], latencies, time.perf_counter() - begin


def cpu_seconds(url: str) -> float:
    """Return the processor time that the server has used, from its metrics."""
    found = re.search(r"^process_cpu_seconds_total (\S+)", httpx2.get(f"{url}/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = make_rows(options.problems, options.candidates)
    with tempfile.TemporaryDirectory() as folder:
        make_prm(folder, rows, options)
        scorer = Scorer(folder, prm_format="er-prm", dtype="float32")
        server, url = start(folder, options.threads)
        try:
            compare(scorer, url, rows, options)
        finally:
            server.terminate()
            server.wait()


def compare(scorer: Scorer, url: str, rows: list[Row], options: argparse.Namespace) -> None:
    """Print both sides' figures."""
    expected = [row["scores"] for row in scorer.score(rows)]
    found, _, _ = asyncio.run(ask(url, rows, options.clients))
    differences = [
        abs(left - right)
        for one, other in zip(expected, found, strict=True)
        for left, right in zip(one, other, strict=True)
    ]
    ours: list[float] = []
    theirs: list[float] = []
    cpu: tuple[list[float], list[float]] = [], []
    latencies: list[float] = []
    for _ in range(options.runs):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        list(scorer.score(rows))
        theirs.append(time.perf_counter() - begin)
        cpu[1].append(time.process_time() - begin_cpu)
        before = cpu_seconds(url)
        _, one, seconds = asyncio.run(ask(url, rows, options.clients))
        cpu[0].append(cpu_seconds(url) - before)
        latencies += one
        ours.append(seconds)
    fast, slow = len(rows) / median(ours), len(rows) / median(theirs)
    hundredths = quantiles(latencies, n=100)
    print(f"{len(rows)} solutions, {len(differences):,} steps; threads: {options.threads}")
    print(f"largest difference of a score        {max(differences):.1e}")
    print(f"solutions/s, median of {options.runs}             {fast:.1f} serve, {slow:.1f} score")
    print(f"their CPU seconds                    {median(cpu[0]):.1f} serve, {median(cpu[1]):.1f} score")
    print(f"serve with {options.clients} clients has            {fast / slow:.0%} of the throughput of score")
    print(f"seconds per request                  p50 {hundredths[49]:.2f}, p99 {hundredths[98]:.2f}")


if __name__ == "__main__":
    main()
