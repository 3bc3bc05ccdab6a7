"""Standard streams: usable even if the shell has closed them, and standard output for rows only."""

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, BinaryIO, TextIO, cast

from erprm_cli.errors import Stopped, UserError
from erprm_cli.io.files import BUFFER_BYTES, closing
from erprm_cli.terminal.reporter import Reporter


def repair_streams() -> None:
    """Make the standard streams usable, whatever the shell made of them. Call it before any file is opened.

    A closed stdin or stdout gets a descriptor for the other direction, so that using it is an error of the
    user, and no file that is opened later gets its number. Errors of stderr are ignored: rows come first.
    """
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)
    if sys.stdout is sys.__stdout__:  # not replaced by a test or a notebook
        sys.stdout = _text(_Stdout(1, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Stderr(2, "w", closefd=False), sys.stderr)


def _text(stream: io.FileIO, like: TextIO | None) -> io.TextIOWrapper:
    """Return a text stream with the encoding and the buffering of `like`, which is None if it was closed."""
    buffered = io.BufferedWriter(stream)
    if like is None:
        return io.TextIOWrapper(buffered)
    return io.TextIOWrapper(
        buffered, like.encoding, like.errors, line_buffering=getattr(like, "line_buffering", False)
    )


class _Stdout(io.FileIO):
    """Standard output, which ends the command quietly at a closed pipe, and with one line at other errors."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still in the buffers must not fail again
            if error.errno == errno.EPIPE:
                raise Stopped(signal.SIGPIPE) from None
            raise UserError(f"stdout: {error.strerror}") from None


class _Stderr(io.FileIO):
    """Standard error; what it cannot take, such as on a full disk, is lost."""

    def write(self, data: Any) -> int:
        with suppress(OSError):
            return super().write(data)
        return len(data)


class _Terminal(io.FileIO):
    """A terminal on which rows are printed, above the progress line if there is one."""

    def write(self, data: Any) -> int:
        with Reporter.without_bar():
            return super().write(data)


@contextmanager
def rows_on_stdout() -> Iterator[BinaryIO]:
    """Yield standard output for rows; everything else that is printed there goes to standard error.

    C libraries write to file descriptor 1 directly, so the descriptor is replaced and not only `sys.stdout`.
    """
    sys.stdout.flush()
    try:
        kept = os.dup(sys.stdout.fileno())
    except (io.UnsupportedOperation, AttributeError):  # captured in memory, without a descriptor
        captured = cast(BinaryIO, sys.stdout.buffer)
        with redirect_stdout(sys.stderr):
            yield captured
        return
    os.dup2(sys.stderr.fileno(), 1)
    try:
        opened = (_Terminal if os.isatty(kept) else io.FileIO)(kept, "wb", closefd=False)
        with closing(cast(BinaryIO, io.BufferedWriter(opened, BUFFER_BYTES))) as file:
            yield file
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
