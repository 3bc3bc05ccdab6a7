"""SIGINT and SIGTERM: the first ends a command cleanly, the second at once.

The first raises Stopped in the main thread as soon as Python code runs there; contexts unwind and rows are
flushed. This can take long, because no Python handler runs during a call of a C library. So a thread counts
the signals too, through the wakeup descriptor to which the interpreter writes each signal at once, and ends
the process soon after the second.

While a module is imported nothing is raised: an extension in C++ may abort, and others make another error of
it. What is raised in a callback of the interpreter is dropped. In both cases the signal is sent again.
"""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

from erprm_cli.errors import Stopped

GRACE_S = 1.0  # from the second signal to the end of the process
RETRY_S = 0.02  # until a signal is sent again
IMPORT = "<frozen importlib._bootstrap>"  # the file of the frames below which a module is imported

_retries = 0


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


def _stop(signal_number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename == IMPORT:
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
            if multiprocessing := sys.modules.get("multiprocessing"):
                for child in multiprocessing.active_children():  # engines must not outlive the command
                    child.kill()
            with suppress(OSError):
                os.write(2, b"erprm: stopped at once\n")
            os._exit(128 + number[0])
