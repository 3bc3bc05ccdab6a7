"""End vLLM's engine processes together with the command, even if it is killed, and clean what they log.

vLLM runs this plugin (its entry point is in pyproject.toml) in each of its processes, also in those that
erprm did not start, where it does nothing.
"""

import ctypes
import os
import signal
import sys

from erprm_cli.terminal.stderr import clean_stderr

PARENT = "ERPRM_ENGINE_PARENT"  # process id of the command, or of the engine process that starts workers
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel kill this process when the command that started it ends."""
    if sys.platform == "linux" and os.environ.get(PARENT) == str(os.getppid()):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.environ[PARENT] = str(os.getpid())  # this process is the parent of the workers
        clean_stderr()
