"""Standard output for rows only."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, BinaryIO, cast

from erprm_cli.io.files import BUFFER_BYTES, closing
from erprm_cli.terminal.reporter import Reporter


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
