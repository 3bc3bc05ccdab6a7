"""A process that works on one request at a time, and is killed when one takes too much time or memory.

It is for work that can run forever in C code, where a Python timeout has no effect. The limit is on
processor time, so what comes out does not depend on the load of the machine. The wall-clock limit only ends
processes that do not compute.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from erprm_cli.errors import EngineError

POLL_INTERVAL_S = 0.1  # between two checks of a process past its limit in wall-clock time
START_LIMIT_S = 120.0  # importing what it needs: about a second on an idle machine


def command_of(module: str) -> tuple[str, ...]:
    """Return the command that runs a module; -P keeps the current folder, which may hold any file, out."""
    return sys.executable, "-P", "-m", module


class WorkerProcess:
    """A running command that calls `serve`. It ends when its channel closes, and so with this process.

    The kernel kills it after `cpu_limit_s` of processor time on one request, even if this process has ended.
    """

    def __init__(
        self, command: Sequence[str], called: str, *, cpu_limit_s: float, wall_limit_s: float
    ) -> None:
        """Start the command, which errors call `called`; the first request waits until it is ready."""
        self._command, self._called = command, called
        self._cpu_limit_s, self._wall_limit_s = cpu_limit_s, wall_limit_s
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

    def request(self, line: bytes) -> bytes:
        """Return the reply to a request; both are one line, here without its end.

        Raises TimeoutError if the request exceeds the limits, ConnectionError if the process was killed,
        EngineError if it cannot be started.
        """
        if not self._ready:
            self._wait_until_ready()
        self._channel.settimeout(self._wall_limit_s)
        self._channel.sendall(line + b"\n")
        if reply := self._reply():
            return reply
        if self._process.wait(self._wall_limit_s) == -signal.SIGPROF:
            raise TimeoutError
        raise ConnectionResetError

    def kill(self) -> None:
        """Kill the process; a thread that waits in `request` gets a ConnectionError."""
        self._process.kill()

    def close(self) -> None:
        """Kill the process and free its resources; no thread may be waiting in `request`."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _wait_until_ready(self) -> None:
        self._channel.settimeout(START_LIMIT_S)
        with suppress(TimeoutError):
            self._ready = bool(self._channel.recv(1))
        if not self._ready:
            raise EngineError(
                f"cannot start {self._called}; run `{' '.join(self._command)} </dev/null` to see why"
            )

    def _reply(self) -> bytes:
        """Return the reply, or nothing if the process has ended.

        Raises TimeoutError after the processor limit in wall-clock time if the process sleeps, after the
        wall-clock limit if it is ready to compute but gets no processor.
        """
        limit = time.monotonic() + self._wall_limit_s
        self._channel.settimeout(self._cpu_limit_s)
        slept = False
        reply = bytearray()
        while True:
            try:
                part = self._channel.recv(1 << 16)
                reply += part
                if not part or reply.endswith(b"\n"):
                    return bytes(reply[:-1]) if part else b""
                continue
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


def serve(
    prepare: Callable[[], Callable[[bytes], bytes]], *, cpu_limit_s: float, memory_limit_bytes: int
) -> None:
    """Run in the process: answer the lines on stdin, a socket, until it closes.

    `prepare` imports what is needed and returns the function from a request to its reply. A request gets at
    most `cpu_limit_s` of processor time; the process, `memory_limit_bytes` of address space.
    """
    import logging
    import resource

    channel = socket.socket(fileno=0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # by default it kills the process, in C code too
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each thread would take address space
    with suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    answer = prepare()
    channel.sendall(b"r")
    for line in channel.makefile("rb"):
        signal.setitimer(signal.ITIMER_PROF, cpu_limit_s)
        reply = answer(line)
        signal.setitimer(signal.ITIMER_PROF, 0)
        channel.sendall(reply + b"\n")
