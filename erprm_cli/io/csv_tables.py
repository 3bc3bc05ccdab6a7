"""Reads CSV and TSV as JSON Lines: a row of the table becomes an object, the header has its fields.

A cell is a string, and null if it is empty. Cells of the fields that are not strings in rows of erprm, such
as `steps` and `sample`, hold JSON.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence

import orjson

from erprm_cli.errors import UserError
from erprm_cli.io.lines import BadLine, max_line_bytes
from erprm_cli.rows.kinds import is_text
from erprm_cli.rows.row import to_line

DELIMITERS = ",\t;"
NAME = re.compile(r"[^\W\d][\w .:/()-]{0,99}")


def delimiter(header: bytes, source: str) -> str | None:
    """Return what separates the cells of `header`, the first line of a file; None: it is not a header.

    All cells of a header look like names. A single cell is a header only if the file is named .csv or .tsv.
    """
    counts = {sign: _num_names(header, sign) for sign in DELIMITERS}
    best = max(DELIMITERS, key=counts.__getitem__)
    stem = source.removesuffix(".gz").removesuffix(".zst")
    return best if counts[best] > (0 if stem.endswith((".csv", ".tsv")) else 1) else None


def _num_names(header: bytes, sign: str) -> int:
    """Return the number of cells of `header`, or 0 if one of them is not a name."""
    try:
        (cells,) = csv.reader([header.decode()], delimiter=sign, strict=True)
    except (csv.Error, ValueError):
        return 0
    return len(cells) if all(NAME.fullmatch(cell.strip()) for cell in cells) else 0


def table_lines(blocks: Iterable[Iterable[bytes]], sign: str, source: str) -> Iterator[list[bytes]]:
    """Yield the rows of a table as lines of JSON, each on the line on which it begins.

    `blocks` are the lines of the file `source`, the header first. A row with more or fewer cells than the
    header, or that is not CSV, becomes a BadLine. Raises UserError if a column occurs twice.
    """
    csv.field_size_limit(max_line_bytes())
    lines = (line.decode("utf-8", "surrogateescape") + "\n" for block in blocks for line in block)
    table = csv.reader(lines, delimiter=sign, strict=True)
    names = [name.strip() for name in next(table)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{source}, line 1: the column {twice!r} occurs twice; rename one of them")
    at = 0
    while True:
        yield [b""] * (table.line_num - at)
        at = table.line_num
        try:
            cells = next(table, None)
        except csv.Error as error:
            line: bytes = BadLine(b"", f"not CSV: {error}")
        else:
            if cells is None:
                return
            line = _row_line(names, cells, sign) if cells else b""
        yield [line]
        at += 1


def _row_line(names: Sequence[str], cells: Sequence[str], sign: str) -> bytes:
    text = sign.join(cells).encode("utf-8", "surrogateescape")
    if len(cells) != len(names):
        return BadLine(text, f"{len(cells)} cells for {len(names)} columns ({', '.join(names)})")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return BadLine(text, f"not UTF-8: byte {text[error.start]:#x}")
    return to_line({name: _value(name, cell) for name, cell in zip(names, cells, strict=True)}).rstrip()


def _value(name: str, cell: str) -> object:
    if not cell:
        return None
    if is_text(name):
        return cell
    try:
        return orjson.loads(cell)
    except ValueError:
        return cell  # the check of the row says what it should be
