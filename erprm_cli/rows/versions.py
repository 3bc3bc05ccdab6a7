"""One version of each problem and of each solution.

Rows are matched by `id`, or by `id` and `sample`. If a problem changes under the same id, its old and new
solutions would be mixed without notice; so would two solutions with one id and sample.
"""

import sys
from collections.abc import Callable

from erprm_cli.errors import RowError
from erprm_cli.hashing import digest
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import one_line

OTHER_PROBLEM = ": another problem or answer"


class Versions:
    """The problems and the solutions seen so far, as digests of their texts."""

    def __init__(
        self, place: str = "in an earlier row of INPUT", remedy: str = "give each problem its own id"
    ) -> None:
        """Errors say that a row differs from the one `place`, and the `remedy`."""
        self.place, self.remedy = place, remedy
        self._problems: dict[str, bytes] = {}
        self._solutions: dict[tuple[str, int], bytes] = {}

    def __len__(self) -> int:
        """The number of solutions."""
        return len(self._solutions)

    def __contains__(self, key: object) -> bool:
        """Return whether the solution with this id and sample is here."""
        return key in self._solutions

    def add(self, row: Row) -> None:
        """Remember a solution; RowError if it is here already, or if its problem is another version."""
        key = sys.intern(row["id"]), row["sample"]
        if self._problems.setdefault(key[0], found := _problem(row)) != found:
            raise self._error(row, OTHER_PROBLEM)
        if key in self._solutions:
            name = one_line(repr(row["id"]))
            raise RowError(f"duplicate id {name}, sample {key[1]}; every row needs its own id and sample")
        self._solutions[key] = _solution(row)

    def check(self, row: Row) -> Row:
        """Return a solution; RowError if it, or its problem, is here in another version."""
        self.check_problem(row)
        known = self._solutions.get((row["id"], row["sample"]))
        if known is not None and known != _solution(row):
            raise self._error(row, f", sample {row['sample']}: another solution")
        return row

    def check_problem(self, row: Row) -> Row:
        """Return a row with a problem; RowError if its id is here with another problem or answer."""
        known = self._problems.get(row["id"])
        if known is not None and known != _problem(row):
            raise self._error(row, OTHER_PROBLEM)
        return row

    def _error(self, row: Row, what: str) -> RowError:
        return RowError(f"id {one_line(repr(row['id']))}{what} than {self.place}", remedy=self.remedy)


def one_version(check: Callable[[Row], Row], seen: Versions | None = None) -> Callable[[Row], Row]:
    """Return `check`, extended: a duplicate, or an id with two problems, raises RowError.

    `seen`, if it is given, receives the rows.
    """
    versions = Versions() if seen is None else seen

    def checked(row: Row) -> Row:
        row = check(row)
        versions.add(row)
        return row

    return checked


def _problem(row: Row) -> bytes:
    return digest(row["problem"], row.get("answer"))


def _solution(row: Row) -> bytes:
    return digest(row["solution"], row["steps"], row.get("reasoning"))
