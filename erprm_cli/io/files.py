"""Files that appear or change only when they are complete, and files that one run at a time may write."""

import fcntl
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` and rename it there if all went well: all or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` that takes its place, and its name, when all went well."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield draft
        if path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            draft.rename(path)
            shutil.rmtree(old)
        else:
            draft.rename(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def is_same_file(target: str, source: str) -> bool:
    """Whether both are one regular file, also when the shell has opened it as stdin or stdout."""
    try:
        ours = os.fstat(sys.stdout.fileno()) if target == "-" else os.stat(target)
        theirs = os.fstat(sys.stdin.fileno()) if source == "-" else os.stat(source)
    except (OSError, ValueError, AttributeError):  # not there yet; captured in memory
        return False
    return stat.S_ISREG(ours.st_mode) and os.path.samestat(ours, theirs)


def empty(file: BinaryIO) -> None:
    if is_regular(file):  # not /dev/stderr or a named pipe
        file.truncate(0)


@contextmanager
def closing(file: BinaryIO) -> Iterator[BinaryIO]:
    """Close `file` at the end. What fails then has failed in `Output` before, and was told."""
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def file_hash(path: Path, *more: str) -> str:
    """Return sha256 over a file's bytes and `more`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    for text in more:
        digest.update(b"\0" + text.encode())
    return digest.hexdigest()
