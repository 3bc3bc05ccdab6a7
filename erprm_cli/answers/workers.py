r"""Formulas compared in worker processes, killed when a pair takes too much time or memory.

The value of a short formula can take days to compute, so it is computed in a process that can be killed (see
`worker_process`). The limit is on processor time: a verdict then does not depend on the load of the machine,
and a resumed run gets the same verdicts as an uninterrupted one.

Why not pebble.ProcessPool: it limits wall-clock time only, and only once a worker has taken the pair, so a
worker stopped before that can block the run forever. It starts all workers for the first pair, and each of
them imports the user's main module, torch included (multiprocessing's "spawn").
"""

import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from erprm_cli.worker_process import WorkerProcess, command_of, serve

CPU_LIMIT_S = 2.0  # processor time per pair; wall-clock time for a worker that sleeps
WALL_LIMIT_S = 20.0  # per pair; reached only if the machine is overloaded or the worker is stopped
MEMORY_LIMIT_BYTES = 2 << 30  # address space of a worker
MAX_WORKERS = 4  # per pool; each takes about 30 MB

COMMAND = command_of("erprm_cli.answers.workers")

REPLIES = {True: b"1", False: b"0", None: b"?"}


class WorkerPool:
    """At most `size` workers, each started when a pair needs one and none is idle. Safe from any thread."""

    def __init__(self, size: int | None = None) -> None:
        """Allow `size` workers; default: one per core, at most MAX_WORKERS."""
        self.size = size or min(_num_cores(), MAX_WORKERS)
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix="answers")  # one per worker
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False

    def submit(self, gold: str, prediction: str) -> "Future[bool | None]":
        """Return a future of the verdict, which is None if the pair exceeds the limits.

        The future raises EngineError if no worker can be started.
        """
        return self._threads.submit(self._verdict, gold, prediction)

    def close(self) -> None:
        """Kill all workers; pairs in progress get no verdict."""
        with self._lock:
            self._closed = True
            for worker in self._busy:
                worker.kill()
        self._threads.shutdown(cancel_futures=True)
        while self._idle:
            self._idle.pop().close()

    def _verdict(self, gold: str, prediction: str) -> bool | None:
        for _ in range(2):  # a worker may have been killed for reasons other than this pair
            worker, answered = self._take(), False
            try:
                verdict = worker.ask(gold, prediction)
                answered = True
                return verdict
            except TimeoutError:
                return None
            except ConnectionError:
                continue
            finally:
                self._put_back(worker, answered)
        return None

    def _take(self) -> "Worker":
        with self._lock:
            if self._closed:
                raise CancelledError
            worker = self._idle.pop() if self._idle else Worker()
            self._busy.add(worker)
            return worker

    def _put_back(self, worker: "Worker", answered: bool) -> None:
        """Keep a worker only if it answered, so that a late reply cannot be taken for the next pair's."""
        with self._lock:
            self._busy.remove(worker)
            if answered:
                self._idle.append(worker)
        if not answered:
            worker.close()


class Worker(WorkerProcess):
    """A process that compares formulas."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """Start the process; the first pair waits until it is ready."""
        super().__init__(command, "the grader's worker", cpu_limit_s=CPU_LIMIT_S, wall_limit_s=WALL_LIMIT_S)

    def ask(self, gold: str, prediction: str) -> bool | None:
        """Return whether two formulas are equal, or None if their numbers are too large to tell.

        Errors are those of `request`.
        """
        reply = self.request(json.dumps([gold, prediction]).encode())
        return {reply: verdict for verdict, reply in REPLIES.items()}[reply]


def _num_cores() -> int:
    """Return the number of cores this process may use, which SLURM and containers limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare() -> Callable[[bytes], bytes]:
    """Return the function that answers JSON [gold, prediction]; it runs in the worker."""
    from erprm_cli.answers.comparison import formulas_equal
    from erprm_cli.answers.formula_values import TooLargeError

    formulas_equal(r"\frac{1}{2}", r"\sqrt{x}")  # computes constants that later pairs need

    def answer(line: bytes) -> bytes:
        gold, prediction = json.loads(line)
        try:
            return REPLIES[formulas_equal(gold, prediction)]
        except (TooLargeError, MemoryError, RecursionError):
            return REPLIES[None]

    return answer


if __name__ == "__main__":
    serve(prepare, cpu_limit_s=CPU_LIMIT_S, memory_limit_bytes=MEMORY_LIMIT_BYTES)
