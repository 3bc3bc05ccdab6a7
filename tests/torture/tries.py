"""Many tries in a forked process: what raises, hangs, writes elsewhere or prints control codes is counted."""

import faulthandler
import logging
import math
import os
import re
import resource
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from erprm_cli.errors import RowError, UserError
from erprm_cli.terminal.stderr import clean_stderr

Tell = Callable[[str], object]

# A hang is a try that takes this much processor time, that waits for so long without any, or that is not over
# after so long; what a busy machine withholds is none of these. The limits on what is tried are far below.
HANG_CPU_S = 30.0
HANG_WAIT_S = 30.0
HANG_S = 600.0
LOOK_S = 1.0  # between two looks at the processor time
WAITING_CPU_S = 0.05  # processor time in HANG_WAIT_S below which a process only waits
MEMORY_BYTES = 16 << 30  # address space of the process
LONGEST_S = math.inf  # of all tries; those that are begun later are left out, and not counted
SHOWN = 5  # tracebacks that are shown of each kind
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FAULTS = ("tracebacks", "hangs", "written outside", "control codes")


def tries(name: str, count: int, attempt: Callable[[int], object], folder: Path, tell: Tell) -> Counter[str]:
    """Call `attempt(number)` for each number: a UserError or RowError is an answer, another a traceback.

    What is written outside `folder` is counted by Python's audit events, in it is the log `stderr.txt`.
    """
    found: Counter[str] = Counter()
    log = folder / "stderr.txt"
    number, end = 0, time.monotonic() + LONGEST_S
    while number < count and time.monotonic() < end:
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reader)
            _child(range(number, count), end, attempt, folder, log, writer)
        os.close(writer)
        number = _watch(reader, pid, found, number)
        os.close(reader)
    text = log.read_text(errors="replace") if log.exists() else ""
    found["control codes"] += sum(not (c.isprintable() or c in "\n\t") for c in text)
    for trace in re.split(r"(?=Traceback \(most recent|Current thread )", text)[1:][:SHOWN]:
        tell(f"{name}: {trace[:3000]}")
    done = {kind: found[kind] for kind in ("refused", *FAULTS)}
    tell(f"{name}: {number:,} tries, {done}")
    found[f"{name} tries"] = number
    return found


class Clock:
    """Tells whether the try that a process is at hangs, from the processor time of it and its children."""

    def __init__(self, pid: int) -> None:
        """Begin at the first look at a try."""
        self._process = psutil.Process(pid)
        self._begin_s = self._moved_s = self._cpu_s()
        self._begin_at = self._moved_at = time.monotonic()

    def hangs(self) -> bool:
        """Return whether the try has taken too much time."""
        cpu_s, now = self._cpu_s(), time.monotonic()
        if abs(cpu_s - self._moved_s) > WAITING_CPU_S:  # less, where a child ended that nobody waits for
            self._moved_s, self._moved_at = cpu_s, now
        return (
            cpu_s - self._begin_s > HANG_CPU_S
            or now - self._moved_at > HANG_WAIT_S
            or now - self._begin_at > HANG_S
        )

    def _cpu_s(self) -> float:
        seconds = 0.0
        with suppress(psutil.NoSuchProcess):
            for process in (self._process, *self._process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    seconds += sum(process.cpu_times()[:4])  # user and system, and of children that ended
        return seconds


def _watch(reader: int, pid: int, found: Counter[str], begin: int) -> int:
    """Count what a process reports that begins with try `begin`; return the number of the next one."""
    number, clock = begin - 1, None
    while True:
        if not select.select([reader], [], [], LOOK_S)[0]:
            clock = clock or Clock(pid)
            if not clock.hangs():
                continue
            found["hangs"] += 1
            print(f"try {number} hangs", file=sys.stderr)
            os.kill(pid, signal.SIGUSR1)  # it writes where it hangs
            time.sleep(1)
            os.killpg(pid, signal.SIGKILL)  # and the processes that it started
            break
        line = b""
        while not line.endswith(b"\n") and (character := os.read(reader, 1)):
            line += character
        if not line:
            break
        kind = line.decode().strip()
        if kind.isdigit():
            number, clock = int(kind), None
        else:
            found[kind] += 1
    status = os.waitpid(pid, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        return number + 1
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        found["tracebacks"] += 1
        print(f"try {number} ended the process with {status:#x}", file=sys.stderr)
    return number + 1


def _child(
    numbers: range, end: float, attempt: Callable[[int], object], folder: Path, log: Path, writer: int
) -> None:
    def report(kind: object) -> None:
        os.write(writer, f"{kind}\n".encode())

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str) and args[2] & WRITING:
            path = os.path.realpath(args[0])
            if not path.startswith((str(folder.resolve()), "/dev/", "/proc/")):
                report("written outside")
                print(f"written outside: {path!r}", file=sys.stderr)

    status = 70
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
        sys.stderr = open(2, "w", buffering=1, errors="replace", closefd=False)
        clean_stderr()
        for handler in logging.getLogger("transformers").handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(sys.stderr)  # a command cleans stderr before it imports transformers
        faulthandler.register(signal.SIGUSR1, file=2)
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # hashes of models
        sys.addaudithook(audit)
        for number in numbers:
            if time.monotonic() > end:
                break
            report(number)
            try:
                attempt(number)
            except (UserError, RowError) as error:
                report("refused")
                line = str(error)
                if len(line) > 2_000 or "\n" in line:
                    raise AssertionError(f"not one short line: {line[:300]!r}") from None
            except BaseException:
                report("tracebacks")
                print(f"try {number}", file=sys.stderr)
                traceback.print_exc()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stderr.flush()
        os._exit(status)
