"""SIGINT and SIGTERM: the first ends a command cleanly, the second at once.

The first raises Stopped in the main thread as soon as Python code runs there; contexts unwind and rows are
flushed. This can take long, because no Python handler runs during a call of a C library. So a thread counts
the signals too, through the wakeup descriptor to which the interpreter writes each signal at once, and ends
the process soon after the second.

While a module is imported nothing is raised: an extension in C++ may abort, and others make another error of
it. What is raised in a callback of the interpreter is dropped. In both cases the signal is sent again. An
import that goes on for long ends with the process, as after a second signal: no row is written meanwhile.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from erprm_cli.errors import Stopped

GRACE_S = 1.0  # from the second signal to the end of the process
IMPORT_S = 2.0  # from the first signal to the end of the process, if a module is imported all the time
RETRY_S = 0.02  # until a signal is sent again
IMPORT = "<frozen importlib._bootstrap>"  # the file of the frames below which a module is imported

_retries = 0
_first_s: float | None = None  # when the first signal came


def catch_signals() -> None:
    """Let the first SIGINT or SIGTERM raise Stopped, and the second end the process within 2 s."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    # A forked child inherits the descriptor, but its signals must not count as ours.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_watch, args=(read_end,), daemon=True).start()
    sys.unraisablehook = _on_dropped
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)


@contextmanager
def stop_calls(stop: Callable[[], object]) -> Iterator[None]:
    """Within this context the first SIGINT or SIGTERM calls `stop`, and raises nothing."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _stop(signal_number: int, frame: FrameType | None) -> None:
    global _first_s
    _first_s = _first_s or time.monotonic()
    while frame is not None:
        if frame.f_code.co_filename == IMPORT:
            if time.monotonic() - _first_s > IMPORT_S:
                _end(signal_number, b"erprm: stopped\n")
            return _send_again(signal_number)
        frame = frame.f_back
    for number in (signal.SIGINT, signal.SIGTERM):  # later signals must not interrupt the unwinding
        signal.signal(number, lambda *_: None)
    raise Stopped(signal_number)


def _on_dropped(dropped: "sys.UnraisableHookArgs") -> None:
    """Send the signal again whose exception was dropped; report other dropped exceptions as usual."""
    if isinstance(dropped.exc_value, Stopped):
        _send_again(dropped.exc_value.signal_number)
    else:
        sys.__unraisablehook__(dropped)


def _send_again(signal_number: int) -> None:
    global _retries
    _retries += 1  # it does not count as a second signal
    signal.signal(signal_number, _stop)
    # To the main thread: only there, it also interrupts a call that waits.
    retry = threading.Timer(RETRY_S, signal.pthread_kill, (threading.main_thread().ident, signal_number))
    retry.daemon = True
    retry.start()


def _watch(channel: int) -> None:
    count = 0
    while number := os.read(channel, 1):
        count += number[0] in (signal.SIGINT, signal.SIGTERM)
        if count - _retries == 2:
            time.sleep(GRACE_S)
            _end(number[0], b"erprm: stopped at once\n")


def _end(signal_number: int, message: bytes) -> NoReturn:
    """End the process as it is; a run that was killed can be continued too."""
    if multiprocessing := sys.modules.get("multiprocessing"):
        for child in multiprocessing.active_children():  # engines must not outlive the command
            child.kill()
    with suppress(OSError):
        os.write(2, message)
    os._exit(128 + signal_number)
