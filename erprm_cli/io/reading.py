"""Reads rows: the lines of an input, parsed and checked, with the place of each."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from operator import length_hint
from typing import TypeVar, cast

from erprm_cli.errors import RowError, UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.json_layouts import value_lines
from erprm_cli.io.lines import BadLine, split_lines
from erprm_cli.io.other_kinds import check_kind
from erprm_cli.io.ownership import NamedFile, check_files
from erprm_cli.io.sources import open_input
from erprm_cli.roles import Role
from erprm_cli.rows.row import Row, loads, reason
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.terminal.say import say

Record = TypeVar("Record")
Share = Callable[[], float | None]
BLOCK_BYTES = 1 << 16  # read at a time: fits into the processor's cache
MAX_BEGIN_BYTES = 1 << 16  # of the first line, which tells the layout: JSON Lines, an array, CSV
OPEN_ENDS = (b"{", b"[", b",", b":")  # where indented JSON breaks its lines
BOM = b"\xef\xbb\xbf"


def read_rows(
    source: str,
    check: Callable[[Row], Record],
    bad: BadRows | None = None,
    limit: int | None = None,
    expand: Callable[[Row], Iterable[Row]] | None = None,
    reporter: Reporter | None = None,
) -> Iterator[Record]:
    """Yield `check(row)` for each row of `source` ("-" is standard input), lazily.

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


def check_rows(
    source: str,
    check: Callable[[Row], Record],
    bad: BadRows,
    limit: int | None = None,
    expand: Callable[[Row], Iterable[Row]] | None = None,
) -> None:
    """Raise UserError if a row of a file is not what it should be; arguments: see `read_rows`.

    So a wrong file is found before the work after which it is read. A pipe cannot be read twice and passes.
    """
    if os.path.isfile(source):
        for _ in read_rows(source, check, bad, limit, expand):
            pass


class _ShareOfLines:
    """The share of a file that has been read, counted in the lines of each block: 0 to 1, None if unknown."""

    def __init__(self, of_file: Share) -> None:
        """Take the share that the blocks begun so far are from `of_file`."""
        self.of_file = of_file
        self._begin: float | None = 0.0  # of the block
        self._end: float | None = 0.0
        self._lines: Sequence[bytes] = ()
        self._left: Iterator[bytes] = iter(())

    def begin_block(self, lines: Sequence[bytes]) -> Iterator[bytes]:
        """Return an iterator of the lines of the next block, from which the share is computed."""
        self._begin, self._end = self._end, self.of_file()
        self._lines, self._left = lines, iter(lines)
        return self._left

    def finish(self) -> None:
        """Set the share to 1."""
        self._begin = self._end = 1.0

    def __call__(self) -> float | None:
        if self._begin is None or self._end is None:
            return None
        left = length_hint(self._left) / max(len(self._lines), 1)
        return self._end - (self._end - self._begin) * left


class Lines:
    """Iterates over the lines of an open file; `place` ("FILE:LINE") and `line` are those of the last one.

    JSON arrays, indented JSON, CSV and TSV are recognised by their content and become lines of JSON. All
    lines that have arrived are yielded before the next read, which may wait. `before_wait` is called before
    each read, so that a command can flush the rows it has buffered. Lines that cannot be read go to `bad`.
    `share_of_file` returns which share of the file has been read.
    """

    def __init__(
        self,
        source: str,
        file: Iterable[bytes],
        before_wait: Callable[[], None] | None = None,
        bad: BadRows | None = None,
        share_of_file: Share = lambda: None,
    ) -> None:
        self.source = "stdin" if source == "-" else source
        self.file = file
        self.before_wait = before_wait
        self.bad = bad or BadRows()
        self._share = _ShareOfLines(share_of_file)
        self._before = 0  # lines of earlier blocks
        self._block: list[bytes] = []
        self._left: Iterator[bytes] = iter(())

    def __iter__(self) -> Iterator[bytes]:
        found = False
        for block in self._blocks():
            self._block, self._left = block, self._share.begin_block(block)
            found = found or any(map(bytes.strip, block))
            if block and isinstance(block[0], BadLine):  # it is alone in its block
                next(self._left)
                self.bad.add(self.place, block[0].reason, block[0])
            yield from self._left  # nothing is counted per line: `place` is computed when it is needed
            self._before += len(block)
            self._block = []
        self._share.finish()
        if not found:
            say(f"{self.source} has no rows")

    def share_read(self, num_rows: int = 0, limit: int | None = None) -> float | None:
        """Return which share of the lines has been yielded, 0 to 1; None if it is unknown.

        If only `limit` rows are wanted, and `num_rows` were read, it is at least the share of these.
        """
        share = self._share()
        if limit is None:
            return share
        return min(1.0, max(share or 0.0, num_rows / max(limit, 1)))

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
        reads = self._reads()
        begin = self._begin(reads)
        check_kind(begin.lstrip(), self.source)
        reads = chain([begin], reads)
        first, _, _ = begin.lstrip().partition(b"\n")
        if first.startswith(b"[") or (first.startswith(b"{") and first.rstrip()[-1:] in OPEN_ENDS):
            try:
                yield from split_lines(value_lines(reads), self.source)
            except EOFError as error:  # in the middle of an array
                raise self._unreadable(error) from None
            return
        blocks = split_lines(reads, self.source)
        if not first.startswith(b"{"):
            from erprm_cli.io.csv_tables import delimiter, table_lines  # JSON never needs them

            if (sign := delimiter(first, self.source)) is not None:
                share_of_table = _ShareOfLines(self._share.of_file)
                self._share.of_file = share_of_table
                blocks = table_lines(map(share_of_table.begin_block, blocks), sign, self.source)
        yield from blocks

    def _begin(self, reads: Iterator[bytes]) -> bytes:
        """Read on until the first line that is not blank has arrived, or enough of it to tell the layout.

        The lines before it are counted and left out, as is the byte order mark.
        """
        begin, mark = b"", BOM
        for data in reads:
            begin += data
            if begin.startswith(mark):
                begin, mark = begin.removeprefix(mark), b""
            line = begin.lstrip()
            indent = len(begin) - len(line)
            blank = begin.rfind(b"\n", 0, indent) + 1 if line else indent
            self._before += begin.count(b"\n", 0, blank)
            begin = begin[blank:]
            if line.startswith(b"[") or b"\n" in line or len(line) > MAX_BEGIN_BYTES:
                return begin
        return begin if begin.strip() else b""

    def _reads(self) -> Iterator[bytes]:
        """Yield the bytes of each read; a read returns what has arrived and waits only for the first byte."""
        read_some = getattr(self.file, "read1", None)
        reads = iter(self.file) if read_some is None else iter(lambda: read_some(BLOCK_BYTES), b"")
        while True:
            if self.before_wait is not None:
                self.before_wait()
            try:
                data = next(reads, b"")
            except (OSError, EOFError) as error:  # a directory on stdin; an incomplete .gz
                raise self._unreadable(error) from None
            if not data:
                return
            yield data

    def _unreadable(self, error: OSError | EOFError) -> UserError:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return UserError(f"{self.source}, after line {self.number:,}: {text}")


@contextmanager
def open_lines(
    source: str, bad: BadRows | None = None, before_wait: Callable[[], None] | None = None
) -> Iterator[Lines]:
    """Open `source` for its lines; UsageError if it is also the file of bad rows."""
    if bad is not None and bad.target is not None:
        check_files(
            [NamedFile("--errors", Role.BAD_ROWS, bad.target), NamedFile("the input", Role.READ, source)]
        )
    with open_input(source) as (file, share_of_file):
        yield Lines(source, file, before_wait, bad, share_of_file)
