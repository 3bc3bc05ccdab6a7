"""Small tools for iterators of rows."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar

from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import one_line

T = TypeVar("T")


def peek(rows: Iterator[T]) -> Iterator[T] | None:
    """Return all of `rows`, or None if there are none, so that no model is loaded for nothing."""
    for first in rows:
        return chain([first], rows)
    return None


def unique(check: Callable[[Row], Row], *names: str) -> Callable[[Row], Row]:
    """Return `check`, extended: a row with the same fields `names` as an earlier row raises RowError."""
    seen: set[tuple[object, ...]] = set()

    def checked(row: Row) -> Row:
        row = check(row)
        key = tuple(row[name] for name in names)
        if key in seen:
            what = ", ".join(f"{name} {one_line(repr(row[name]))}" for name in names)
            raise RowError(f"duplicate {what}; every row needs its own {' and '.join(names)}")
        seen.add(key)
        return row

    return checked
