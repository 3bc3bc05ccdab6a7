"""Rows that cannot be used: the first stops the command, or all go to --errors FILE."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.compression import codec
from erprm_cli.io.files import empty, open_locked
from erprm_cli.rows.row import Row, to_line


def _to_safe_line(row: Row) -> bytes:
    """As `to_line`, and what UTF-8 cannot say (lone surrogates of file names) as escapes."""
    try:
        return to_line(row)
    except TypeError:
        return to_line(
            {name: str(text).encode("utf-8", "backslashreplace").decode() for name, text in row.items()}
        )


class BadRows:
    """Where rows go that cannot be used: the first stops the command, or all are written to a file."""

    def __init__(
        self,
        target: str | None = None,
        limit: int | None = None,
        remedy: str = "--errors FILE sets such rows aside and goes on",
    ) -> None:
        """Collect at most `limit` rows in the file `target`; without a target, take none.

        The file is opened at once, so that a wrong name shows before the work, and emptied when it is used.
        """
        if target is not None and codec(target) is not None:
            raise UsageError(f"--errors {target}: bad rows are written plain; give it another name")
        self.count = 0
        self._begun = False
        self.target = target
        self.limit = limit
        self.remedy = remedy
        self._file = None if target is None else open_locked(target)

    def add(self, place: str, reason: str, line: bytes | str) -> None:
        """Record a bad row, or raise UserError when there is nowhere to record it."""
        if self._file is None:
            raise UserError(f"{place}: {reason}. {self.remedy}")
        self.count += 1
        self._write(place, reason, line)
        if self.limit is not None and self.count > self.limit:
            raise UserError(
                f"more than {self.limit} bad rows, see {self.target}; the last: {place}: {reason}"
            )

    def note(self, place: str, reason: str, line: str) -> None:
        """Record what a person should look at though no row is bad, if there is where; it does not count."""
        if self._file is not None:
            self._write(place, reason, line)

    def _write(self, place: str, reason: str, line: bytes | str) -> None:
        assert self._file is not None
        if not self._begun:
            empty(self._file)
            self._begun = True
        text = line if isinstance(line, str) else line.decode("utf-8", "backslashreplace")
        row = {"place": place, "reason": reason, "line": text.rstrip("\r\n")}
        try:
            self._file.write(_to_safe_line(row))
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self.target}: {error.strerror}") from None

    def close(self) -> None:
        """Close the file; raise UserError if any row was bad, so that the exit status tells."""
        if self._file is None:
            return
        if not self._begun:
            empty(self._file)  # of what an earlier run left
        self.abandon()
        if self.count:
            rows = "1 bad row" if self.count == 1 else f"{self.count:,} bad rows"
            raise UserError(f"{rows} went to {self.target}; all others are done")

    def abandon(self) -> None:
        """Close the file and say nothing: another error is under way."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


@contextmanager
def bad_rows(target: str | None, limit: int | None = None) -> Iterator[BadRows]:
    """Open --errors FILE for one command; leaving it raises UserError if any row went there.

    Enter it before the output, so that the output is complete when it raises.
    """
    if target is None and limit is not None:
        raise UsageError("--max-errors counts the rows that --errors FILE sets aside; give both")
    bad = BadRows(target, limit)
    try:
        yield bad
    except BaseException:
        bad.abandon()
        raise
    bad.close()
