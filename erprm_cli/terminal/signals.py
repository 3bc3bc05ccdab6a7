"""SIGINT and SIGTERM: the first ends a command in good order, the second at once.

The first raises Stopped in the main thread, when Python next has a say; contexts unwind, rows are flushed.
That may take its time, as inside a long call of a C library no Python handler runs. So a thread counts the
signals too, through the descriptor to which the interpreter writes each at once, and ends the process soon
after the second.
"""

import os
import signal
import sys
import threading
import time
from types import FrameType

from erprm_cli.errors import Stopped

GRACE_S = 1.0  # from the second signal to the end


def catch_signals() -> None:
    """Let the first SIGINT or SIGTERM raise Stopped, and the second end the process within 2 s."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    # A child that is forked has the descriptor too, and what it gets is not ours.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_watch, args=(ours,), daemon=True).start()
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)


def _stop(signal_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # what follows must not break into the unwinding
        signal.signal(number, lambda *_: None)
    raise Stopped(signal_number)


def _watch(channel: int) -> None:
    count = 0
    while number := os.read(channel, 1):
        count += number[0] in (signal.SIGINT, signal.SIGTERM)
        if count == 2:
            time.sleep(GRACE_S)
            if multiprocessing := sys.modules.get("multiprocessing"):
                for child in multiprocessing.active_children():  # no engine outlives us
                    child.kill()
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"erprm: stopped at once\n")
            os._exit(128 + number[0])
