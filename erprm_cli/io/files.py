"""Files: read and written at once, or opened for rows, locked against a second run, and kept an eye on."""

import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from erprm_cli.errors import UsageError, UserError
from erprm_cli.rows.row import Row
from erprm_cli.terminal.say import say

LOCK = "run.lock"  # in the folder of a run
BUFFER_BYTES = 1 << 20
MAX_OBJECT_BYTES = 1 << 24  # of a file of settings: room for some ten thousand runs
MAX_DEPTH = 100  # of such a file; libraries read what is in it by functions that call themselves

# Reading and writing


def read_json(path: str | Path) -> Any:
    """Return the value in a JSON file. Raises OSError if it cannot be read, ValueError if it is not JSON."""
    return orjson.loads(Path(path).read_bytes())


def json_bytes(value: object) -> bytes:
    """Return the content of a JSON file for people: indented, with a newline at the end."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def read_object(
    path: Path, max_bytes: int = MAX_OBJECT_BYTES, loads: Callable[[bytes], Any] = orjson.loads
) -> Row:
    """Return the object in a JSON file; ValueError says why it is not one, or too large or deep.

    `loads` parses it: json.loads for what transformers writes, which may be Infinity or an integer beyond 64
    bits.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > max_bytes:
            raise ValueError(f"larger than {max_bytes >> 20} MB")
        value = loads(path.read_bytes())
    except OSError as error:
        raise ValueError(error.strerror) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        parts = (part for one in level for part in (one.values() if isinstance(one, dict) else one))
        level = [part for part in parts if isinstance(part, dict | list)]
        if not level:
            return value
    raise ValueError("nested too deeply")


def write_json(path: Path, value: object) -> None:
    """Write a new JSON file for people. Raises OSError if that fails."""
    path.write_bytes(json_bytes(value))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table in a TOML file that a flag names; UsageError if it cannot be read or is not TOML."""
    import tomllib  # here, because `--help` loads this module

    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise UsageError(error.strerror, where=path) from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise UsageError(error, where=path) from None


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file. Raises OSError or UnicodeDecodeError."""
    return path.read_text(encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file. Raises OSError if that fails."""
    path.write_text(text, encoding="utf-8")


def fits(path: Path, patterns: Iterable[str]) -> bool:
    """Return whether the name of a file matches one of the patterns, in which * stands for any letters."""
    return any(fnmatch(path.name, pattern) for pattern in patterns)


def file_hash(path: Path, *more: str) -> str:
    """Return the SHA-256 of a file's bytes and the texts `more`, as hex digits."""
    import hashlib  # here, because `--help` loads this module

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    for text in more:
        digest.update(b"\0" + text.encode())
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are safe on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Open files


def open_locked(path: str, named: str | None = None) -> BinaryIO:
    """Open a file to append to and lock it; its content stays. Errors call it `named`.

    Raises UserError if it cannot be opened or another run has it. The lock ends with the process, however
    that ends. On a file system without locks there is a warning.
    """
    named = named or path
    while True:
        try:
            file = open(path, "ab", buffering=BUFFER_BYTES)
        except OSError as error:
            raise UserError(error.strerror, where=named) from None
        if lock(file, path, named):
            return file
        file.close()  # another run renamed it between the two calls


def lock(file: BinaryIO, path: str | Path, named: str) -> bool:
    """Lock an open file against a second run; return False if it is no longer the file at `path`.

    Raises UserError if another run has the lock. Devices and named pipes need none.
    """
    if not is_regular(file):
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        array = "; put $SLURM_ARRAY_TASK_ID into its name" if "SLURM_ARRAY_TASK_ID" in os.environ else ""
        raise UserError(
            f"{named}: another run, or another flag of this one, is writing to it{array}"
        ) from None
    except OSError as error:
        _warn_once(
            f"{named}: this file system has no locks ({error.strerror}); take care that no second run writes "
            "to the same file"
        )
    return is_at(file, path)


@cache
def _warn_once(message: str) -> None:
    say(message, kind="warning")


def is_at(file: BinaryIO, path: str | Path) -> bool:
    """Return whether `path` is the name of an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def check_intact(file: BinaryIO, path: Path, named: str, size: int | None = None) -> None:
    """Raise UserError if another process has deleted or replaced an open file, or `size` is not its size."""
    if not path.exists():
        what = "deleted"
    elif not is_at(file, path):
        what = "replaced"
    elif size is not None and os.fstat(file.fileno()).st_size != size:
        what = "changed"
    else:
        return
    raise UserError(f"{named} was {what} by another process while this command wrote to it")


@contextmanager
def closing(file: BinaryIO) -> Iterator[BinaryIO]:
    """Close `file` at the end. Errors here were already reported by Output."""
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def empty(file: BinaryIO) -> None:
    """Remove what is in an open file; a device or a named pipe is left alone."""
    if is_regular(file):
        file.truncate(0)


def is_regular(file: BinaryIO) -> bool:
    """Return whether an open file keeps what is written: it is not a device or a named pipe."""
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
