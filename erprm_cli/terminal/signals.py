"""SIGINT and SIGTERM: the first ends a command cleanly, the second at once.

The first raises Stopped in the main thread as soon as Python code runs there; contexts unwind and rows are
flushed. This can take long, because no Python handler runs during a call of a C library. So a thread counts
the signals too, through the wakeup descriptor to which the interpreter writes each signal at once, and ends
the process soon after the second.
"""

import os
import signal
import sys
import threading
import time
from types import FrameType

from erprm_cli.errors import Stopped

GRACE_S = 1.0  # from the second signal to the end of the process


def catch_signals() -> None:
    """Let the first SIGINT or SIGTERM raise Stopped, and the second end the process within 2 s."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    # A forked child inherits the descriptor, but its signals must not count as ours.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_watch, args=(read_end,), daemon=True).start()
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)


def _stop(signal_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # later signals must not interrupt the unwinding
        signal.signal(number, lambda *_: None)
    raise Stopped(signal_number)


def _watch(channel: int) -> None:
    count = 0
    while number := os.read(channel, 1):
        count += number[0] in (signal.SIGINT, signal.SIGTERM)
        if count == 2:
            time.sleep(GRACE_S)
            if multiprocessing := sys.modules.get("multiprocessing"):
                for child in multiprocessing.active_children():  # engines must not outlive the command
                    child.kill()
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"erprm: stopped at once\n")
            os._exit(128 + number[0])
