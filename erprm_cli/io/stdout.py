"""Standard output for rows only."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import BinaryIO, cast

from erprm_cli.io.files import BUFFER_BYTES, closing


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
        with closing(os.fdopen(kept, "wb", buffering=BUFFER_BYTES, closefd=False)) as file:
            yield file
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
