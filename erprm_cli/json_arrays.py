"""Rows of files that are either JSON Lines or one JSON array, as benchmarks are published."""

from collections.abc import Callable, Iterator
from itertools import islice

import orjson

from erprm_cli.errors import RowError, UserError
from erprm_cli.jsonl import BadRows, Lines, Record, Row, open_lines, parse_line, to_line


def read_rows_or_array(
    source: str, check: Callable[[Row], Record], bad: BadRows | None = None, limit: int | None = None
) -> Iterator[Record]:
    """As `jsonl.read_rows`, also for a file that is one array; of that the place is "FILE, row N"."""
    bad = bad or BadRows()
    with open_lines(source, bad) as lines:
        for line, place in islice(_items(lines), limit):
            try:
                yield check(parse_line(line))
            except RowError as error:
                bad.add(place, str(error), line)


def _items(lines: Lines) -> Iterator[tuple[bytes, str]]:
    """Yield each row as a line of JSON, and its place."""
    filled = (line for line in lines if line.strip())
    for line in filled:
        if not line.lstrip().startswith(b"["):
            yield line, lines.place
            continue
        try:  # no row begins so: the whole file is an array, and no part of it can be read alone
            items = orjson.loads(b"\n".join([line, *filled]))
        except orjson.JSONDecodeError as error:
            raise UserError(f"{lines.source}: not JSON: {error}") from None
        for number, item in enumerate(items, start=1):
            yield to_line(item), f"{lines.source}, row {number}"
