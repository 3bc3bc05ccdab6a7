"""The program in forked processes, which have loaded everything already, and an engine that is scripted."""

import faulthandler
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erprm_cli import app
from erprm_cli.engines import open as opening
from erprm_cli.engines.base import LATER, Completion, Request, SamplingParams, Usage
from erprm_cli.engines.config import EngineConfig
from erprm_cli.hashing import derive_seed
from erprm_cli.terminal.reporter import Reporter

PAUSE_S = 0.0003  # between two completions
IN_FLIGHT = 32
LONGEST_S = 100  # a run that takes longer hangs


class ScriptedEngine:
    """Completes by what the seed says, and finishes in an order that no seed decides, as real engines do."""

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self.pause_s = pause_s
        self.tokenizer: Any = None
        self.usage = Usage()

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        in_flight: list[Completion] = []
        for request in requests:
            if request is LATER:
                yield self._finish_one(in_flight)
            for index in request.indices:
                in_flight.append(completion(request, index))
                if len(in_flight) >= IN_FLIGHT:
                    yield self._finish_one(in_flight)
        while in_flight:
            yield self._finish_one(in_flight)

    def _finish_one(self, in_flight: list[Completion]) -> Completion:
        time.sleep(self.pause_s)
        return in_flight.pop(random.SystemRandom().randrange(len(in_flight)))

    def close(self) -> None:
        pass


def completion(request: Request, index: int) -> Completion:
    """Return a completion of 1 to 4 steps that the request's seed and the index decide."""
    draw = random.Random(derive_seed(request.seed, index))
    steps = [f"Step {number}: {draw.randrange(3)} + 1." for number in range(draw.randint(0, 3))]
    text = "\n".join([*steps, f"The answer is: {draw.randrange(3)}"])
    return Completion(request.key, index, text, len(text.split()), draw.choice(("stop", "stop", "length")))


def scripted(config: EngineConfig, reporter: Reporter | None = None) -> ScriptedEngine:
    """Stand in for `engines.open.open_engine`."""
    return ScriptedEngine()


@dataclass(slots=True)
class Run:
    """One process of the program, working in `folder`."""

    pid: int
    folder: Path

    def kill_after(self, seconds: float) -> bool:
        """Kill the process after so many seconds; return False if it came to its end before."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return False
            time.sleep(min(left, 0.01))
        os.kill(self.pid, signal.SIGKILL)
        return os.WIFSIGNALED(os.waitpid(self.pid, 0)[1])

    def wait(self) -> int:
        """Return the exit status, negative where a signal ended the process."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def start(
    arguments: Sequence[object], folder: Path, *, real_engine: bool = False, closed: Sequence[int] = ()
) -> Run:
    """Fork a process that runs `erprm ARGUMENTS` in `folder`; what it prints is added to stderr.txt there.

    `closed` are the standard descriptors that are closed, as by `<&-`, `>&-` and `2>&-` in a shell.
    """
    pid = os.fork()
    if pid:
        return Run(pid, folder)
    status = 70
    try:
        os.chdir(folder)
        for descriptor, name, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, "stdout.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
            (2, "stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        ):
            os.dup2(os.open(name, flags, 0o644), descriptor)
        log = open("stderr.txt", "a")
        for descriptor, name in enumerate(("stdin", "stdout", "stderr")):  # as the interpreter makes them
            if descriptor in closed:
                os.close(descriptor)
            stream = None if descriptor in closed else open(descriptor, "w" if descriptor else "r")
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        faulthandler.dump_traceback_later(LONGEST_S, exit=True, file=log)
        sys.argv = ["erprm", *map(str, arguments)]
        if not real_engine:
            opening.open_engine = scripted
        app.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc(file=log)
        log.flush()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def run(arguments: Sequence[object], folder: Path, *, real_engine: bool = False) -> int:
    """Run `erprm ARGUMENTS` in `folder` to its end; return the exit status."""
    return start(arguments, folder, real_engine=real_engine).wait()


def tracebacks(folder: Path) -> int:
    """Return how many tracebacks the runs in `folder` printed."""
    path = folder / "stderr.txt"
    return path.read_text(errors="replace").count("Traceback (most recent") if path.exists() else 0


def fresh(folder: Path) -> Path:
    """Return `folder`, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
