"""Rows in: lines of an input, parsed and checked, with the place of each."""

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
from erprm_cli.rows.row import Row, loads, why

Record = TypeVar("Record")
BLOCK_BYTES = 1 << 16  # read at a time; more of it would not stay in the processor's cache
BOM = b"\xef\xbb\xbf"


def read_rows(
    source: str,
    check: Callable[[Row], Record],
    bad: BadRows | None = None,
    limit: int | None = None,
    expand: Callable[[Row], Iterable[Row]] | None = None,
) -> Iterator[Record]:
    """Yield `check(row)` for each non-blank line of `source` ("-" is standard input), lazily.

    A line that is no JSON object, or for which `check` raises RowError, is handed to `bad` with its place.
    At most `limit` rows are read. `expand` turns the row of a line into those to check: foreign formats.
    """
    import jsonlines  # here, as `label` goes without

    bad = bad or BadRows()
    with open_lines(source, bad) as lines:
        reader = jsonlines.Reader(lines, loads=loads)
        for _ in count() if limit is None else range(limit):
            try:
                row = cast(Row, reader.read(type=dict, skip_empty=True))
                if expand is None:
                    yield check(row)
                    continue
                for own in expand(row):
                    try:
                        yield check(own)
                    except RowError as error:  # the other rows of the line may be sound
                        bad.add(lines.place, str(error), lines.line)
            except EOFError:
                return
            except jsonlines.InvalidLineError as error:
                bad.add(lines.place, why(error.__cause__), lines.line)
            except RowError as error:
                bad.add(lines.place, str(error), lines.line)


class Lines:
    """The lines of an open file, and the place ("FILE:LINE") and bytes of the one given last.

    What has arrived is given out before more is waited for; `before_wait` is called each time before that,
    so that a command which buffers its rows can let them go.
    """

    def __init__(
        self, source: str, file: Iterable[bytes], before_wait: Callable[[], None] | None = None
    ) -> None:
        self.source = "stdin" if source == "-" else source
        self.file = file
        self.before_wait = before_wait
        self._before = 0  # lines of earlier blocks
        self._block: list[bytes] = []
        self._left: Iterator[bytes] = iter(())

    def __iter__(self) -> Iterator[bytes]:
        for block in self.blocks():
            yield from block

    def blocks(self) -> Iterator[Iterator[bytes]]:
        """Yield the lines that each read completes; use them up before the next."""
        for block in self._blocks():
            self._block, self._left = block, iter(block)
            yield self._left  # no bookkeeping per line: the place is worked out when it is asked for
            self._before += len(block)
            self._block = []

    @property
    def number(self) -> int:
        return self._before + len(self._block) - length_hint(self._left)

    @property
    def line(self) -> bytes:
        return self._block[-1 - length_hint(self._left)]

    @property
    def place(self) -> str:
        return f"{self.source}:{self.number}"

    def _blocks(self) -> Iterator[list[bytes]]:
        """Yield the lines, without their newlines, that each read completes."""
        torn: list[bytes] = []  # parts of the line whose newline has not arrived
        mark = BOM
        for data in self._reads():
            block = data.split(b"\n")
            torn.append(block[0])
            if len(block) > 1:
                block[0] = b"".join(torn).removeprefix(mark)
                mark = b""
                torn = [block.pop()]
                yield block
        if last := b"".join(torn).removeprefix(mark):
            yield [last]

    def _reads(self) -> Iterator[bytes]:
        """Yield what each read gives, without waiting for more than it needs to."""
        read_some = getattr(self.file, "read1", None)
        reads = iter(self.file) if read_some is None else iter(lambda: read_some(BLOCK_BYTES), b"")
        if self.source.removesuffix(".gz").endswith(".json"):
            reads = array_lines(reads)
        while True:
            if self.before_wait is not None:
                self.before_wait()
            try:
                data = next(reads, b"")
            except (OSError, EOFError) as error:  # a directory on stdin; a .gz cut short
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                raise UserError(f"{self.source}, after line {self.number:,}: {reason}") from None
            if not data:
                return
            yield data


@contextmanager
def open_lines(
    source: str, bad: BadRows | None = None, before_wait: Callable[[], None] | None = None
) -> Iterator[Lines]:
    """Open `source` for its lines; UsageError if it is also where bad rows go."""
    if bad is not None and bad.target is not None and is_same_file(bad.target, source):
        raise UsageError(f"--errors {bad.target} is the input too; give it another name")
    with open_input(source) as file:
        yield Lines(source, file, before_wait)
