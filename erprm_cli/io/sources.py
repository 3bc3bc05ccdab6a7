"""Where rows come from: a file, standard input, a shipped data set, the Hugging Face Hub."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from erprm_cli import shipped
from erprm_cli.errors import UserError
from erprm_cli.io.compression import codec, decompressed
from erprm_cli.io.hub import HUB, PARQUET, hub_lines, parquet_lines, parse_hub_name

SHIPPED = "tiny:"  # tiny:train and tiny:test are the shipped problems


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
def open_input(source: str) -> Iterator[Iterable[bytes]]:
    """Open `source` for its bytes; UserError if it cannot be opened.

    `source` is a file (decompressed if its suffix says so), "-" for standard input, tiny:train, tiny:test, a
    parquet file or a data set (hf://...). The rows of the last two become lines of JSON as they are read.
    """
    if source.startswith(HUB):
        yield hub_lines(source)
        return
    if source == "-":
        if sys.stdin.isatty():
            print("erprm: reading rows from the terminal; Ctrl-D ends them", file=sys.stderr)
        yield sys.stdin.buffer
        return
    path = Path(source)
    if source.startswith(SHIPPED):
        path = shipped.problems(source.removeprefix(SHIPPED))
    packed = codec(source)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from None
    with file:
        if path.suffix == PARQUET:
            yield parquet_lines(source)
        else:
            yield file if packed is None else decompressed(file, packed)
