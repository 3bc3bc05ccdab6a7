"""What erprm does in vLLM's engine processes: end with the command, even if that is killed without a word.

vLLM runs this as a plugin (the entry point is in pyproject.toml) in every process of its own, also in those
that have nothing to do with erprm, where it does nothing.
"""

import ctypes
import os
import signal
import sys

PARENT = "ERPRM_ENGINE_PARENT"  # process id of the command, or of the engine that starts workers
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent, the command that started it, ends."""
    if sys.platform == "linux" and os.environ.get(PARENT) == str(os.getppid()):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.environ[PARENT] = str(os.getpid())  # the workers' parent is this process
