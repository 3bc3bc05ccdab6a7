"""SIGINT and SIGTERM, sent to real processes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from erprm_cli.answers.workers import WALL_LIMIT_S
from tests.torture import rows

# The second signal must end even a process in which no Python code runs, such as one busy in hashlib.
BUSY = """
import hashlib, sys
from erprm_cli.app import catch_signals
catch_signals()
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"x", b"y", 1_000_000_000)
"""
SWALLOWED = """
import time
from erprm_cli.app import catch_signals
catch_signals()
print("ready", flush=True)
while True:
    try:
        time.sleep(60)
    except BaseException:  # as a library may
        pass
"""


def wait_until_delivered(pid: int, number: int) -> None:
    """Wait while a signal is pending on a busy machine: the kernel would merge a second one with it."""
    status = Path(f"/proc/{pid}/status")  # Linux alone tells
    while status.exists():
        (mask,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("ShdPnd"))
        if not int(mask, 16) & 1 << (number - 1):
            return
        time.sleep(0.01)


@pytest.mark.parametrize("program", [BUSY, SWALLOWED], ids=["busy", "swallowed"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_the_second_signal_ends_a_process_within_2_s(program: str, number: int) -> None:
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(number)
        time.sleep(0.2)
        wait_until_delivered(process.pid, number)
        assert process.poll() is None
        process.send_signal(number)
        wait_until_delivered(process.pid, number)
        begin = time.monotonic()
        assert process.wait(timeout=20) == 128 + number
        assert time.monotonic() - begin < 2.0
        assert process.stderr.read() == "erprm: stopped at once\n"


@pytest.mark.slow
def test_an_import_that_does_not_end_is_stopped_too(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    code = "from erprm_cli.app import catch_signals; catch_signals(); import endless"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "ready\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert time.monotonic() - begin > 1.5  # most imports end in this time, and then the contexts unwind
        assert process.stderr.read() == "erprm: stopped\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_stopped_sample_keeps_its_rows_and_names_the_command(tmp_path: Path, number: int) -> None:
    words = ["sample", "tiny:train", "-n", "4", "-q", "-o", "out file.jsonl", "--batch-size", "8"]
    command = [sys.executable, "-m", "erprm_cli", *words, "--overwrite"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        path = tmp_path / "out file.jsonl"
        while not (path.exists() and path.stat().st_size):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
        message = process.stderr.read()
    again = "erprm sample tiny:train -n 4 -q -o 'out file.jsonl' --batch-size 8"
    assert message == f"erprm: stopped; to continue: {again}\n"
    for line in path.read_bytes().splitlines(keepends=True):
        assert line.endswith(b"\n") and json.loads(line)["solution"] is not None
    (run,) = json.loads((tmp_path / "out file.jsonl.meta.json").read_text())["runs"]
    assert run["command"] == again
    assert {"engine", "torch", "transformers", "erprm", "started", "commit"} <= run.keys()


# What is raised in a callback of the interpreter is dropped.
DROPPED = """
import os, signal, time, weakref
from erprm_cli.app import catch_signals
from erprm_cli.errors import Stopped
catch_signals()
class Thing: pass
thing = Thing()
reference = weakref.ref(thing, lambda _: [signal.raise_signal(signal.SIGINT), time.sleep(0.1)])
try:
    del thing
    time.sleep(60)
except Stopped as stop:
    print(stop.exit_status)
time.sleep(2)  # the second try must not count as a second signal
"""


def test_a_signal_whose_exception_the_interpreter_drops_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "130\n", "")


# A signal at the first import of the program itself.
EARLY = """
import os, signal, sys
from erprm_cli import __main__ as start
class Finder:
    def find_spec(*_):
        os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
start.main()
"""


def test_a_signal_while_the_program_is_loaded_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "erprm: stopped\n")


# A module that is imported must be whole, or C++ aborts and others make another error of the signal.
IMPORTING = """
import signal, sys, time
from erprm_cli.app import catch_signals
from erprm_cli.errors import Stopped
catch_signals()
sys.path.insert(0, sys.argv[1])
try:
    import slow_module
    time.sleep(60)
except Stopped as stop:
    print(stop.exit_status, slow_module.whole)
"""


def test_a_signal_waits_for_the_end_of_an_import(tmp_path: Path) -> None:
    module = "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(0.5)\nwhole = True\n"
    (tmp_path / "slow_module.py").write_text(module)
    command = [sys.executable, "-c", IMPORTING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "130 True\n", "")


# A signal must not wait for a verdict in progress: the engine's only answer takes minutes to compare, and its
# worker is stopped, so that not even its time limit ends it.
HARD = r"""
from tests.torture import program
class Hard(program.ScriptedEngine):
    def generate(self, requests, params):
        for one in super().generate(requests, params):
            answer = r"The answer is: (x + \frac{1}{2999!})!"
            yield program.Completion(one.key, one.index, answer, 9, "stop")
program.opening.open_engine = lambda *_: Hard()
program.app.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_does_not_wait_for_a_verdict(tmp_path: Path, number: int) -> None:
    source = rows.write(tmp_path / "in.jsonl", [rows.problem(1)])
    command = [sys.executable, "-c", HARD, "sample", str(source), "-n", "4", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (workers := psutil.Process(process.pid).children()):
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(1.0)
        for worker in workers:
            worker.suspend()  # it gives no verdict, so the command would wait for WALL_LIMIT_S
        begin = time.monotonic()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=2 * WALL_LIMIT_S)
    assert time.monotonic() - begin < WALL_LIMIT_S / 2
    assert (process.returncode, stdout) == (128 + number, "")
    assert stderr == "erprm: stopped; with -o, the same command again continues\n"
    assert psutil.wait_procs(workers, 5)[1] == []
