"""Lines of a stream of bytes, in bounded memory: a line that is too long becomes a bad line."""

import os
from collections.abc import Iterable, Iterator
from functools import cache

from erprm_cli.errors import UsageError, UserError

MAX_LINE_MB = "ERPRM_MAX_LINE_MB"  # environment variable: the longest line that is read, in megabytes
DEFAULT_MAX_LINE_MB = 256
KEPT_BYTES = 1_000  # of a line that is too long, for --errors
MAX_SKIPPED_LINES = 16  # longest lines without a newline, after which the input counts as endless


class BadLine(bytes):
    """A line, or the beginning of one, that is not read as a row; `reason` says why."""

    reason: str

    def __new__(cls, line: bytes, reason: str) -> "BadLine":
        self = super().__new__(cls, line)
        self.reason = reason
        return self


@cache
def max_line_bytes() -> int:
    """Return the length of the longest line that is read: $ERPRM_MAX_LINE_MB, or the default."""
    text = os.environ.get(MAX_LINE_MB) or str(DEFAULT_MAX_LINE_MB)
    if not text.isdecimal() or not 0 < int(text) < 1 << 20:
        raise UsageError(f"{MAX_LINE_MB}={text!r} must be a whole number of megabytes, such as 1024")
    return int(text) * 1_000_000


def split_lines(reads: Iterable[bytes], source: str) -> Iterator[list[bytes]]:
    """Yield the lines, without their newlines, that each of `reads` completes.

    A line of more than `max_line_bytes()` becomes a BadLine as soon as that is known; the rest of it is
    skipped. Raises UserError if the rest seems to have no end.
    """
    longest = max_line_bytes()
    begun: list[bytes] = []  # parts of the line whose newline has not arrived
    size = 0  # of these parts
    skipped: int | None = None  # bytes of a line that is too long; None: the line is not
    for data in reads:
        block = data.split(b"\n")
        if skipped is not None:
            skipped += len(block[0])
            if skipped > MAX_SKIPPED_LINES * longest:
                raise UserError(
                    f"no end of the line within {skipped / 1e9:.2g} GB",
                    where=source,
                    remedy=f"{MAX_LINE_MB}=N allows longer lines",
                )
            if len(block) == 1:
                continue
            del block[0]
            skipped = None
        begun.append(block[0])
        size += len(block[0])
        if size > longest:
            reason = f"the line has more than {longest / 1e6:,.0f} MB; {MAX_LINE_MB}=N sets the limit"
            yield [BadLine(b"".join(begun)[:KEPT_BYTES], reason)]
            begun, size = [], 0
            if len(block) == 1:
                skipped = 0
                continue
            del block[0]
            begun, size = [block[0]], len(block[0])
        if len(block) > 1:
            block[0] = b"".join(begun)
            begun = [block.pop()]
            size = len(begun[0])
            yield block
    if last := b"".join(begun):
        yield [last]
