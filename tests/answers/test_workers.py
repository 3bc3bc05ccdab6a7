import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from erprm_cli.answers import workers
from erprm_cli.answers.grader import Grader
from erprm_cli.answers.workers import CPU_LIMIT_S, Worker
from erprm_cli.errors import EngineError
from tests.answers.answer_data import ENDLESS


def worker_processes(parent: int) -> list[int]:
    """Return the processes that compare answers for `parent`, from /proc, without zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if b"erprm_cli.answers.workers" in command and stat[0] != "Z" and int(stat[1]) == parent:
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_worker_starts_with_the_first_pair_that_needs_it_and_ends_with_the_grader() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader() as grader:
        assert grader.equal("1/2", "0.5")
        assert set(worker_processes(os.getpid())) == before
        assert grader.equal("x+1", "1+x")
        (worker,) = set(worker_processes(os.getpid())) - before
    assert not alive(worker)
    assert grader.equal("x+2", "2+x")  # closed is not broken
    grader.close()
    assert set(worker_processes(os.getpid())) == before


def test_a_worker_ignores_an_interrupt_and_is_replaced_when_killed() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader() as grader:
        assert grader.equal("x+1", "1+x")
        (worker,) = set(worker_processes(os.getpid())) - before
        os.kill(worker, signal.SIGINT)  # is not for it
        assert grader.equal("x+2", "2+x")
        assert alive(worker)
        os.kill(worker, signal.SIGKILL)
        assert grader.equal("x+3", "3+x")
        assert not alive(worker)
        assert grader.unknown == 0


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_and_the_pair_counted() -> None:
    with Grader() as grader:
        begin = time.perf_counter()
        assert grader.equal("7", ENDLESS) is False
        assert grader.unknown == 1
        assert time.perf_counter() - begin < 30
        assert grader.equal("x+1", "1+x")


@pytest.mark.slow
def test_no_worker_outlives_a_killed_command() -> None:
    program = (
        "import sys\nfrom erprm_cli.answers.grader import Grader\ngrader = Grader()\n"
        "grader.equal('x+1', '1+x')\nprint('ready', flush=True)\ngrader.equal('7', sys.argv[1])\n"
    )
    command = subprocess.Popen([sys.executable, "-c", program, ENDLESS], stdout=subprocess.PIPE)
    assert command.stdout is not None and command.stdout.readline() == b"ready\n"
    (worker,) = worker_processes(command.pid)
    time.sleep(0.3)  # into the pair that hangs
    command.kill()
    command.wait()
    command.stdout.close()
    deadline = time.monotonic() + CPU_LIMIT_S + 10
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)


@pytest.mark.slow
def test_hard_pairs_are_compared_in_parallel_and_do_not_block_others() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader(num_workers=3) as grader:
        slow = [grader.submit(gold, ENDLESS) for gold in ("7", "8")]
        assert grader.equal("x+1", "1+x")
        assert not any(verdict.is_known() for verdict in slow)
        assert len(set(worker_processes(os.getpid())) - before) == 3
        assert [verdict.reward() for verdict in slow] == [0.0, 0.0]
        assert len(set(worker_processes(os.getpid())) - before) == 1
    assert set(worker_processes(os.getpid())) == before


def test_a_worker_is_started_only_when_none_is_idle() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader(num_workers=3) as grader:
        for number in range(5):
            assert grader.equal(f"x+{number}", f"{number}+x")
        assert len(set(worker_processes(os.getpid())) - before) == 1


def test_no_more_workers_than_allowed_serve_many_threads() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader(num_workers=2) as grader, ThreadPoolExecutor(8) as threads:
        pairs = [(f"x+{number % 9}", f"{number % 3}+x") for number in range(90)]
        verdicts = list(threads.map(lambda pair: grader.equal(*pair), pairs))
        assert verdicts == [number % 9 == number % 3 for number in range(90)]
        assert len(set(worker_processes(os.getpid())) - before) == 2


def test_closing_does_not_wait_for_pairs_in_progress() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader(num_workers=2) as grader:
        for gold in "6789":
            grader.submit(gold, ENDLESS)
        begin = time.perf_counter()
    assert time.perf_counter() - begin < 1.5
    assert set(worker_processes(os.getpid())) == before
    assert grader.unknown == 0


def test_a_worker_has_a_cap_on_its_memory() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader() as grader:
        assert grader.equal("x+1", "1+x")
        (worker,) = set(worker_processes(os.getpid())) - before
        limits = Path(f"/proc/{worker}/limits").read_text()
    assert re.search(rf"Max address space +{workers.MEMORY_LIMIT_BYTES} ", limits)


def scripted_worker(body: str) -> Worker:
    """Return a worker that reports to be ready and then runs `body` instead of comparing."""
    begin = "import socket, time; channel = socket.socket(fileno=0); channel.send(b'r'); channel.recv(999); "
    return Worker([sys.executable, "-c", begin + body])


def test_a_sleeping_worker_gets_as_much_wall_clock_time_as_processor_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "CPU_LIMIT_S", 0.2)
    with closing(scripted_worker("time.sleep(60)")) as worker:
        begin = time.perf_counter()
        with pytest.raises(TimeoutError):
            worker.ask("1", "2")
        assert time.perf_counter() - begin < workers.WALL_LIMIT_S / 2


@pytest.mark.slow
def test_a_worker_that_waits_for_a_processor_gets_the_wall_clock_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The scripted worker sets no limit on itself, so it behaves like one that gets no processor."""
    monkeypatch.setattr(workers, "CPU_LIMIT_S", 0.2)
    late = "end = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass\nchannel.send(b'1\\n')"
    with closing(scripted_worker(f"exec({late!r})")) as worker:
        assert worker.ask("1", "2")
    monkeypatch.setattr(workers, "WALL_LIMIT_S", 0.5)
    with closing(scripted_worker(f"exec({late!r})")) as worker, pytest.raises(TimeoutError):
        worker.ask("1", "2")


def test_a_worker_that_does_not_start_is_an_engine_error() -> None:
    with closing(Worker([sys.executable, "-c", "pass"])) as worker:
        with pytest.raises(EngineError, match="cannot start the grader's worker"):
            worker.ask("1", "2")
