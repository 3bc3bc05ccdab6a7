"""Reads rows: the lines of an input, parsed and checked, with the place of each."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from operator import length_hint
from typing import TypeVar, cast

from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.files import is_same_file
from erprm_cli.io.json_arrays import array_lines
from erprm_cli.io.sources import open_input
from erprm_cli.rows.row import Row, loads, reason
from erprm_cli.terminal.reporter import Reporter

Record = TypeVar("Record")
BLOCK_BYTES = 1 << 16  # read at a time: fits into the processor's cache
BOM = b"\xef\xbb\xbf"


def read_rows(
    source: str,
    check: Callable[[Row], Record],
    bad: BadRows | None = None,
    limit: int | None = None,
    expand: Callable[[Row], Iterable[Row]] | None = None,
    reporter: Reporter | None = None,
) -> Iterator[Record]:
    """Yield `check(row)` for each line of `source` that is not blank ("-" is standard input), lazily.

    A line that is not a JSON object, or for which `check` raises RowError, goes to `bad` with its place. At
    most `limit` rows are read. `expand` turns a row of another format into the rows to check. `reporter` is
    told how much of the input has been read.
    """
    import jsonlines  # here, because `label` does not need it

    bad = bad or BadRows()
    with open_lines(source, bad) as lines:
        reader = jsonlines.Reader(lines, loads=loads)
        number = 0
        if reporter is not None:
            reporter.watch(lambda: lines.share_read(number, limit))
        for number in count(1) if limit is None else range(1, limit + 1):  # noqa: B007  # used above
            try:
                row = cast(Row, reader.read(type=dict, skip_empty=True))
                if expand is None:
                    yield check(row)
                    continue
                for own in expand(row):
                    try:
                        yield check(own)
                    except RowError as error:  # the other rows of the line may be good
                        bad.add(lines.place, str(error), lines.line)
            except EOFError:
                return
            except jsonlines.InvalidLineError as error:
                bad.add(lines.place, reason(error.__cause__), lines.line)
            except RowError as error:
                bad.add(lines.place, str(error), lines.line)


class Lines:
    """Iterates over the lines of an open file; `place` ("FILE:LINE") and `line` are those of the last one.

    All lines that have arrived are yielded before the next read, which may wait. `before_wait` is called
    before each read, so that a command can flush the rows it has buffered. `share_of_file` returns which
    share of the file has been read.
    """

    def __init__(
        self,
        source: str,
        file: Iterable[bytes],
        before_wait: Callable[[], None] | None = None,
        share_of_file: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.source = "stdin" if source == "-" else source
        self.file = file
        self.before_wait = before_wait
        self._share_of_file = share_of_file
        self._shares: tuple[float | None, float | None] = 0.0, 0.0  # of the file, before and after the block
        self._before = 0  # lines of earlier blocks
        self._block: list[bytes] = []
        self._left: Iterator[bytes] = iter(())

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks():
            self._block, self._left = block, iter(block)
            self._shares = self._shares[1], self._share_of_file()
            yield from self._left  # nothing is counted per line: `place` is computed when it is needed
            self._before += len(block)
            self._block = []
        self._shares = 1.0, 1.0

    def share_read(self, num_rows: int = 0, limit: int | None = None) -> float | None:
        """Return which share of the lines has been yielded, 0 to 1; None if it is unknown.

        If only `limit` rows are wanted, and `num_rows` were read, it is at least the share of these.
        """
        begin, end = self._shares
        shares = [] if limit is None else [num_rows / max(limit, 1)]
        if begin is not None and end is not None:
            yielded = 1 - length_hint(self._left) / max(len(self._block), 1)
            shares.append(begin + (end - begin) * yielded)
        return min(1.0, max(shares)) if shares else None

    @property
    def number(self) -> int:
        """The number of the last line, from 1; 0 before the first."""
        return self._before + len(self._block) - length_hint(self._left)

    @property
    def line(self) -> bytes:
        """The last line, without its newline."""
        return self._block[-1 - length_hint(self._left)]

    @property
    def place(self) -> str:
        """Where the last line is: FILE:LINE."""
        return f"{self.source}:{self.number}"

    def _blocks(self) -> Iterator[list[bytes]]:
        """Yield the lines, without their newlines, that each read completes."""
        begun: list[bytes] = []  # parts of the line whose newline has not arrived
        mark = BOM
        for data in self._reads():
            block = data.split(b"\n")
            begun.append(block[0])
            if len(block) > 1:
                block[0] = b"".join(begun).removeprefix(mark)
                mark = b""
                begun = [block.pop()]
                yield block
        if last := b"".join(begun).removeprefix(mark):
            yield [last]

    def _reads(self) -> Iterator[bytes]:
        """Yield the bytes of each read; a read returns what has arrived and waits only for the first byte."""
        read_some = getattr(self.file, "read1", None)
        reads = iter(self.file) if read_some is None else iter(lambda: read_some(BLOCK_BYTES), b"")
        if self.source.removesuffix(".gz").endswith(".json"):
            reads = array_lines(reads)
        while True:
            if self.before_wait is not None:
                self.before_wait()
            try:
                data = next(reads, b"")
            except (OSError, EOFError) as error:  # a directory on stdin; an incomplete .gz
                text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                raise UserError(f"{self.source}, after line {self.number:,}: {text}") from None
            if not data:
                return
            yield data


@contextmanager
def open_lines(
    source: str, bad: BadRows | None = None, before_wait: Callable[[], None] | None = None
) -> Iterator[Lines]:
    """Open `source` for its lines; UsageError if it is also the file of bad rows."""
    if bad is not None and bad.target is not None and is_same_file(bad.target, source):
        raise UsageError(f"--errors {bad.target} is also the input; give it another name")
    with open_input(source) as (file, share_of_file):
        yield Lines(source, file, before_wait, share_of_file)
