"""Bad rows: the first one stops the command, or all are written to --errors FILE."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.files import check_intact, empty, is_regular, open_locked
from erprm_cli.io.ownership import NamedFile, check_files
from erprm_cli.roles import Role
from erprm_cli.rows.row import Row, to_line


class BadRows:
    """Receives the rows that cannot be used: raises UserError at the first, or writes all to a file."""

    def __init__(
        self,
        target: str | None = None,
        limit: int | None = None,
        remedy: str = "--errors FILE writes such rows to FILE and goes on",
    ) -> None:
        """Write at most `limit` bad rows to the file `target`. Without a target, every bad row is an error.

        The file is opened at once, so that a wrong name is reported before the work. What an earlier run
        wrote to it is removed with the first bad row, or at the end.
        """
        if target is not None:
            check_files([NamedFile("--errors", Role.BAD_ROWS, target)])
        self.count = 0
        self._emptied = False
        self.target = target
        self.limit = limit
        self.remedy = remedy
        self._file = None if target is None else open_locked(target)

    def add(self, place: str, reason: str, line: bytes | str, error: type[UserError] = UserError) -> None:
        """Write a bad row. Raises `error` without a file, and UserError if there are more than `limit`."""
        if self._file is None:
            raise error(reason, where=place, remedy=self.remedy)
        self.count += 1
        self._write(place, reason, line)
        if self.limit is not None and self.count > self.limit:
            raise UserError(
                f"more than {self.limit} bad rows, see {self.target}; the last one: {place}: {reason}"
            )

    def note(self, place: str, reason: str, line: str) -> None:
        """Write something that a person should look at, if there is a file; it is not a bad row."""
        if self._file is not None:
            self._write(place, reason, line)

    def _write(self, place: str, reason: str, line: bytes | str) -> None:
        assert self._file is not None
        if not self._emptied:
            empty(self._file)
            self._emptied = True
        text = line if isinstance(line, str) else line.decode("utf-8", "backslashreplace")
        row = {"place": place, "reason": reason, "line": text.rstrip("\r\n")}
        try:
            self._file.write(_to_safe_line(row))
            self._file.flush()
        except OSError as error:
            raise UserError(error.strerror, where=self.target) from None

    def close(self) -> None:
        """Close the file. Raises UserError if there were bad rows, so that the exit status is not 0."""
        if self._file is None:
            return
        if not self._emptied:
            empty(self._file)
        if is_regular(self._file):
            check_intact(self._file, Path(str(self.target)), str(self.target))
        self.abandon()
        if self.count:
            rows = "1 bad row was" if self.count == 1 else f"{self.count:,} bad rows were"
            raise UserError(f"{rows} written to {self.target}; all other rows were processed")

    def abandon(self) -> None:
        """Close the file and raise nothing: another error is on its way."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


@contextmanager
def bad_rows(target: str | None, limit: int | None = None) -> Iterator[BadRows]:
    """Open --errors FILE for one command. At the end, raises UserError if there were bad rows.

    Enter it before the output, so that the output is complete by then.
    """
    if target is None and limit is not None:
        raise UsageError("--max-errors needs --errors FILE")
    bad = BadRows(target, limit)
    try:
        yield bad
    except BaseException:
        bad.abandon()
        raise
    bad.close()


def _to_safe_line(row: Row) -> bytes:
    """Return `to_line(row)`, with escapes for what UTF-8 cannot encode: lone surrogates in file names."""
    try:
        return to_line(row)
    except TypeError:
        return to_line(
            {name: str(text).encode("utf-8", "backslashreplace").decode() for name, text in row.items()}
        )
