"""Where rows come from: a file, standard input, a shipped data set, the Hugging Face Hub."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, NamedTuple

from erprm_cli import shipped
from erprm_cli.errors import UserError
from erprm_cli.io.compression import codec, decompressed
from erprm_cli.io.hub import HUB, PARQUET, TableLines, parse_hub_name
from erprm_cli.terminal.say import say

SHIPPED = "tiny:"  # tiny:train and tiny:test are the shipped problems


class Input(NamedTuple):
    """An open input: its bytes, and a function that returns which share of it has been read.

    The share is that of the bytes of a file, compressed as they are, or of the rows of a data set. It is None
    if the size is unknown, as for a pipe.
    """

    data: Iterable[bytes]
    share_read: Callable[[], float | None]


def check_input(source: str) -> None:
    """Raise UserError if `source`, which is read later, cannot be opened. A pipe is not opened twice."""
    if source.startswith(HUB):
        parse_hub_name(source)
        return
    with suppress(OSError):  # a name that no file can have is an error of opening it
        if source == "-" or Path(source).is_fifo():
            return
    with open_input(source):
        pass


@contextmanager
def open_input(source: str) -> Iterator[Input]:
    """Open `source` for its bytes; UserError if it cannot be opened.

    `source` is a file (decompressed if its suffix says so), "-" for standard input, tiny:train, tiny:test, a
    parquet file or a data set (hf://...). The rows of the last two become lines of JSON as they are read.
    """
    if source.startswith(HUB):
        table = TableLines(source)
        yield Input(table, table.share_read)
        return
    if source == "-":
        if sys.stdin.isatty():
            say("reading rows from the terminal; Ctrl-D ends them")
        yield Input(sys.stdin.buffer, _share_read(sys.stdin.buffer))
        return
    path = Path(source)
    if source.startswith(SHIPPED):
        path = shipped.problems(source.removeprefix(SHIPPED))
    packed = codec(source)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(error.strerror, where=source) from None
    with file:
        if path.suffix == PARQUET:
            table = TableLines(source)
            yield Input(table, table.share_read)
        else:
            yield Input(file if packed is None else decompressed(file, packed), _share_read(file))


def _share_read(file: BinaryIO) -> Callable[[], float | None]:
    """Return a function that returns which share of a regular file has been read; None for others."""
    try:
        status = os.fstat(file.fileno())
    except OSError:  # stdin that is in memory
        return lambda: None
    if not S_ISREG(status.st_mode) or not status.st_size:
        return lambda: None
    return lambda: file.tell() / status.st_size
