"""An open file or pipe for rows, flushed and synced while the command works."""

import errno
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from threading import Lock, Timer
from typing import TYPE_CHECKING, BinaryIO, NoReturn, TypeVar

from erprm_cli.errors import Stopped, UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.compression import Codec
from erprm_cli.io.drafts import Draft
from erprm_cli.io.files import check_intact
from erprm_cli.io.provenance import START_AGAIN, read_meta, replace_meta, this_run
from erprm_cli.io.reading import read_rows
from erprm_cli.rows.row import Row, to_line

if TYPE_CHECKING:
    from erprm_cli.rows.versions import Versions

T = TypeVar("T")
SYNC_INTERVAL_S = 3.0
MEMBER_BYTES = 1 << 20  # of rows in one compressed member


class Output:
    """An open file or pipe for rows. `io.writing` makes and closes it."""

    def __init__(
        self,
        file: BinaryIO,
        path: Path | None,
        name: str,
        after_error: str = "",
        codec: Codec | None = None,
        draft: Draft | None = None,
        begin: Callable[[], None] | None = None,
    ) -> None:
        """Write to `file`, which is the file `path` if it keeps its rows and None if it does not.

        Errors say `name` and `after_error`. With `codec`, rows are collected for MEMBER_BYTES or
        SYNC_INTERVAL_S and written as one compressed member. `draft` is what `file` is as yet, if it is one;
        `begin` is called before the first row, or at the end. The caller calls `finish` and `close`.
        """
        self.file = file
        self.path = path
        self.draft = draft
        self.name = name
        self.after_error = after_error
        self.codec = codec
        self.continued = False  # holds, or may hold, rows of an earlier run
        self.count = 0
        self._begin = begin
        self._size = 0 if path is None or draft is not None else path.stat().st_size
        self._collected: list[bytes] = []
        self._collected_bytes = 0
        self._lock = Lock()  # the timer writes from its own thread
        self._timer: Timer | None = None
        self._failed: UserError | OSError | Stopped | None = None  # in the timer; the next call raises it

    def write(self, row: Row) -> None:
        """Write one row, at once; within a few seconds it is also safe on the disk."""
        self.write_lines((to_line(row),))
        self.flush()
        self.count += 1

    def write_lines(self, lines: Iterable[bytes]) -> None:
        """Write rows as lines with their newlines; they may stay in the buffer until `flush`."""
        for line in lines:
            if self._begin is not None:
                self.begin()
            with self._lock:
                if self.codec is not None:
                    self._collected.append(line)
                    self._collected_bytes += len(line)
                    continue
                try:
                    self.file.write(line)
                    self._size += len(line)
                except OSError as error:
                    self._fail(error)

    def begin(self) -> None:
        """Let the file take its place, if that was put off until everything had been checked."""
        if self._begin is not None:
            begin, self._begin = self._begin, None
            begin()
            self.draft = None

    def flush(self) -> None:
        """Write the buffer out. Compression and the sync to disk follow within SYNC_INTERVAL_S."""
        if self.codec is None or self._collected_bytes >= MEMBER_BYTES:
            self.finish()
        if self._timer is None and (self.path is not None or self.codec is not None):
            self._timer = Timer(SYNC_INTERVAL_S, self._on_timer)
            self._timer.daemon = True
            self._timer.start()

    def finish(self, *, sync: bool = False) -> None:
        """Write everything out; with `sync` a file is also safe on the disk, and known to be as written."""
        with self._lock:
            if self._failed is not None:
                raise self._failed
            self._finish(sync)

    def close(self) -> None:
        """Stop the timer, so that nothing more is written; the file itself stays open."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None

    def _finish(self, sync: bool) -> None:
        try:
            if self.codec is not None and self._collected:
                member = self.codec.compress(b"".join(self._collected))
                self._collected, self._collected_bytes = [], 0
                self.file.write(member)
                self._size += len(member)
            self.file.flush()
            path = self.path if self.draft is None else self.draft.path
            if sync and path is not None:
                check_intact(self.file, path, self.name, self._size)
                os.fsync(self.file.fileno())
        except OSError as error:
            self._fail(error)

    def _on_timer(self) -> None:
        """Write out and sync what was written SYNC_INTERVAL_S ago and since."""
        with self._lock:
            if self._timer is None:  # closed
                return
            self._timer = None
            try:
                self._finish(sync=True)
            except (UserError, OSError, Stopped) as error:
                self._failed = error

    def add_provenance(self, provenance: Row) -> None:
        """Add the versions of this run and its models' commits to FILE.meta.json.

        Raises UserError if an earlier run used another commit: the branch has moved on the Hub.
        """
        if self.path is None:
            return
        self.begin()
        meta = read_meta(self.path)
        runs = meta["runs"]
        if self.continued:
            runs.append(this_run())
        for run, (name, now) in product(runs[:-1], provenance.items()):
            before = run.get(name)
            if name.endswith("commit") and before and now and before != now:
                model = "PRM" if name.startswith("prm_") else "model"
                raise UserError(
                    f"{self.path} was made with commit {before} of the {model}, not {now}", remedy=START_AGAIN
                )
        runs[-1] |= provenance
        replace_meta(self.path, meta)

    def existing(self, check: Callable[[Row], T]) -> Iterator[T]:
        """Yield `check(row)` for each row that an earlier run of the same command left in the file.

        A row that was damaged since, for which `check` raises RowError, is an error with its place.
        """
        if self.path is not None and self.continued:
            remedy = f"delete the line, and what it held is made again; {START_AGAIN}"
            yield from read_rows(str(self.path), check, BadRows(remedy=remedy))

    def solutions(self, check: Callable[[Row], Row]) -> "Versions":
        """Return the solutions that an earlier run left in the file; see `existing`."""
        from erprm_cli.rows.versions import Versions  # here, because `--help` loads this module

        stored = Versions(f"in {self.name}", f"give what has changed another id; {START_AGAIN}")
        for _ in self.existing(lambda row: stored.add(check(row))):
            pass
        return stored

    def _fail(self, error: OSError) -> NoReturn:
        if error.errno == errno.EPIPE:  # the reader has closed the pipe, like `| head`
            raise Stopped(signal.SIGPIPE) from None
        raise UserError(f"{error.strerror}{self.after_error}", where=self.name) from None
