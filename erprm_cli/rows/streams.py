"""Small tools for streams of rows."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar

from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import one_line

T = TypeVar("T")


def peek(rows: Iterator[T]) -> Iterator[T] | None:
    """Return `rows` untouched, or None if there are none: no model need be loaded for nothing."""
    for first in rows:
        return chain([first], rows)
    return None


def unique(check: Callable[[Row], Row], *names: str) -> Callable[[Row], Row]:
    """Return `check`, which then also raises RowError for a row whose `names` an earlier row had."""
    seen: set[int] = set()

    def checked(row: Row) -> Row:
        row = check(row)
        key = hash(tuple(row[name] for name in names))
        if key in seen:
            what = ", ".join(f"{name} {one_line(repr(row[name]))}" for name in names)
            raise RowError(f"{what} is here a second time; rows of one kind need different ones")
        seen.add(key)
        return row

    return checked
