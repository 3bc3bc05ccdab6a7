r"""Formulas compared in worker processes, killed when a pair takes too much time or memory.

The value of a short formula can take days to compute, in C code, where a Python timeout has no effect, so it
is computed in a process that can be killed. The limit is on processor time: a verdict then does not depend
on the load of the machine, and a resumed run gets the same verdicts as an uninterrupted one. The wall-clock
limit only ends workers that do not compute.

Why not pebble.ProcessPool: it limits wall-clock time only, and only once a worker has taken the pair, so a
worker stopped before that can block the run forever. It starts all workers for the first pair, and each of
them imports the user's main module, torch included (multiprocessing's "spawn").
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from erprm_cli.errors import EngineError

CPU_LIMIT_S = 2.0  # processor time per pair; wall-clock time for a worker that sleeps
WALL_LIMIT_S = 20.0  # per pair; reached only if the machine is overloaded or the worker is stopped
POLL_INTERVAL_S = 0.1  # between two checks of a worker past CPU_LIMIT_S of wall-clock time
START_LIMIT_S = 120.0  # importing mpmath: 0.2 s on an idle machine
MEMORY_LIMIT_BYTES = 2 << 30  # address space of a worker
MAX_WORKERS = 4  # per pool; each takes about 30 MB

# -P keeps the current folder, which may hold any file, off the import path
COMMAND = (sys.executable, "-P", "-m", "erprm_cli.answers.workers")

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


class Worker:
    """A process that compares formulas. It ends when its channel closes, and so with this process.

    The kernel kills it after CPU_LIMIT_S of processor time on one pair, even if this process has ended.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """Start the process; the first pair waits until it is ready."""
        self._command = command
        self._ready = False
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,  # our stdout is for rows
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C goes to the command only, which then closes its workers
            )

    def ask(self, gold: str, prediction: str) -> bool | None:
        """Return whether two formulas are equal, or None if their numbers are too large to tell.

        Raises TimeoutError if they exceed the limits, ConnectionError if the process was killed, EngineError
        if it cannot be started.
        """
        if not self._ready:
            self._wait_until_ready()
        self._channel.settimeout(WALL_LIMIT_S)
        self._channel.sendall(json.dumps([gold, prediction]).encode() + b"\n")
        reply = self._reply()
        if reply:
            return {reply: verdict for verdict, reply in REPLIES.items()}[reply]
        if self._process.wait(WALL_LIMIT_S) == -signal.SIGPROF:
            raise TimeoutError
        raise ConnectionResetError

    def kill(self) -> None:
        """Kill the process; a thread that waits in `ask` gets a ConnectionError."""
        self._process.kill()

    def close(self) -> None:
        """Kill the process and free its resources; no thread may be waiting in `ask`."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _wait_until_ready(self) -> None:
        self._channel.settimeout(START_LIMIT_S)
        with suppress(TimeoutError):
            self._ready = bool(self._channel.recv(1))
        if not self._ready:
            raise EngineError(
                f"cannot start the grader's worker; run `{' '.join(self._command)} </dev/null` to see why"
            )

    def _reply(self) -> bytes:
        """Return the reply, or nothing if the process has ended.

        Raises TimeoutError after CPU_LIMIT_S of wall-clock time if the process sleeps, after WALL_LIMIT_S if
        it is ready to compute but gets no processor.
        """
        limit = time.monotonic() + WALL_LIMIT_S
        self._channel.settimeout(CPU_LIMIT_S)
        slept = False
        while True:
            try:
                return self._channel.recv(1)
            except TimeoutError:
                # Two checks in a row: the process also sleeps briefly after it has sent a reply.
                sleeps = self._sleeps()
                if sleeps and slept or time.monotonic() > limit:
                    raise
            slept = sleeps
            self._channel.settimeout(POLL_INTERVAL_S)

    def _sleeps(self) -> bool:
        """Return whether /proc reports that the process waits for something other than a processor."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_bytes()
        except OSError:  # not Linux, or it has just ended, which shows on the channel
            return False
        return stat.rpartition(b")")[2].split()[0] == b"S"


def _num_cores() -> int:
    """Return the number of cores this process may use, which SLURM and containers limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve(channel: socket.socket) -> None:
    """Run in the worker: answer JSON lines [gold, prediction] until the channel closes."""
    import logging
    import resource

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # by default it kills the process, in C code too
    with suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()

    from erprm_cli.answers.comparison import formulas_equal
    from erprm_cli.answers.formula_values import TooLargeError

    formulas_equal(r"\frac{1}{2}", r"\sqrt{x}")  # computes constants that later pairs need
    channel.sendall(b"r")
    for line in channel.makefile("rb"):
        gold, prediction = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        try:
            verdict = formulas_equal(gold, prediction)
        except (TooLargeError, MemoryError, RecursionError):
            verdict = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        channel.sendall(REPLIES[verdict])


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
