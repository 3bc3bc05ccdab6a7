"""Files that one run at a time may write; a killed process leaves no lock behind."""

import fcntl
import os
import stat
from contextlib import suppress
from typing import BinaryIO

from erprm_cli.errors import UserError

LOCK = "run.lock"  # in the folder of a run
BUFFER_BYTES = 1 << 20


def open_locked(path: str, named: str | None = None) -> BinaryIO:
    """Open a file to append to, and lock it; nothing in it changes. Errors call it `named`."""
    named = named or path
    while True:
        try:
            file = open(path, "ab", buffering=BUFFER_BYTES)
        except OSError as error:
            raise UserError(f"{named}: {error.strerror}") from None
        if not is_regular(file):
            return file
        try:  # the lock goes with the process, however it ends
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            array = "; put $SLURM_ARRAY_TASK_ID into its name" if "SLURM_ARRAY_TASK_ID" in os.environ else ""
            raise UserError(
                f"{named}: another run, or another flag of this one, writes it too{array}"
            ) from None
        except OSError:
            return file  # a file system without locks
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()  # another run renamed it between the two calls


def is_regular(file: BinaryIO) -> bool:
    """Whether a file keeps what is written: no device, no named pipe."""
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
