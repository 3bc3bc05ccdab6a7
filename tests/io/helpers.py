"""Rows written and read again by the tests of io."""

from pathlib import Path
from typing import Any

from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import open_atomic_output, open_output
from erprm_cli.rows.row import Row

SETTINGS = {"model": "tiny", "seed": 0}
OPENERS = [open_output, open_atomic_output]


def as_it_is(row: Row) -> Row:
    return row


def write(path: Path, rows: list[Row], opener: Any = open_output, **options: Any) -> None:
    with opener(str(path), SETTINGS, **options) as output:
        for row in rows:
            output.write(row)


def numbers(path: Path) -> list[int]:
    return [row["n"] for row in read_rows(str(path), as_it_is)]
