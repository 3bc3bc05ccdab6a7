"""Rows with scores, whether they came with them or a PRM gives them on the way."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from erprm_cli.jsonl import BadRows, Row, read_rows
from erprm_cli.streams import peek, unique

if TYPE_CHECKING:
    from erprm_cli.prm import Scorer, Tagged

NO_SCORES = "no 'scores'; `erprm score` writes them, or --prm MODEL makes them here"

Check = Callable[[Row], Row]


class ScoredRows:
    """Reads the rows of one file or of several; the PRM is loaded once there is a row for it."""

    def __init__(self, prm: str | None, check: Check, check_scored: Check, *key: str) -> None:
        """Take scores from the rows, which `check_scored` checks, or from the model `prm` if one is named.

        With `prm`, scores that are there are replaced, and `check` checks the rows. No two rows may have the
        same fields `key`, if any are named.
        """
        self.prm = prm
        self.check = unique(check, *key) if key else check
        self.check_scored = unique(check_scored, *key) if key else check_scored
        self._scorer = cache(lambda: _load(prm or ""))

    def read(
        self,
        source: str,
        bad: BadRows,
        limit: int | None = None,
        read: Callable[..., Iterator[Any]] = read_rows,
    ) -> Iterator[Row]:
        """Yield the rows of `source`, which `read` reads, with `scores`."""
        if self.prm is None:
            yield from read(source, self.check_scored, bad, limit)
            return
        encoded = peek(read(source, self._encoded, bad, limit))
        if encoded is not None:
            yield from self._scorer().score_encoded(encoded)

    def _encoded(self, row: Row) -> "tuple[Row, Tagged]":
        row = self.check(row)
        return row, self._scorer().encode(row)


def _load(prm: str) -> "Scorer":
    from erprm_cli.prm import Scorer  # torch

    return Scorer(prm)
