"""An open file or pipe for rows, flushed and synced while the command works."""

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock, Timer
from typing import BinaryIO, NoReturn

from erprm_cli.errors import UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.compression import Codec
from erprm_cli.io.provenance import AFRESH, read_meta, replace_meta, this_run
from erprm_cli.io.reading import read_rows
from erprm_cli.rows.row import Row, to_line

SYNC_INTERVAL_S = 3.0
PACK_BYTES = 1 << 20  # of rows in one packed member


class Output:
    """An open place for rows. What `existing` yields was written by an earlier run of the same command."""

    def __init__(
        self,
        file: BinaryIO,
        path: Path | None,
        name: str,
        if_it_fails: str = "",
        form: Codec | None = None,
    ) -> None:
        """Write to `file`, which is `path` if it keeps its rows; errors say `name` and `if_it_fails`.

        With `form`, rows wait for PACK_BYTES or SYNC_INTERVAL_S and are written as one packed member.
        Whoever made it calls `finish` and `close`.
        """
        self.file = file
        self.path = path
        self.name = name
        self.if_it_fails = if_it_fails
        self.form = form
        self.continued = False  # holds, or may hold, rows of an earlier run
        self.count = 0
        self._to_pack: list[bytes] = []
        self._bytes_to_pack = 0
        self._lock = Lock()  # of the file: rows that wait are let go by a timer, whatever the command does
        self._timer: Timer | None = None
        self._failed: UserError | OSError | None = None  # in the timer, to be told by the next call

    def write(self, row: Row) -> None:
        """Write one row, at once; within a few seconds it is also safe on the disk."""
        self.write_lines((to_line(row),))
        self.flush()
        self.count += 1

    def write_lines(self, lines: Iterable[bytes]) -> None:
        """Write rows as lines, newlines included; they may wait in the buffer until `flush`."""
        for line in lines:
            with self._lock:
                if self.form is not None:
                    self._to_pack.append(line)
                    self._bytes_to_pack += len(line)
                    continue
                try:
                    self.file.write(line)
                except OSError as error:
                    self._fail(error)

    def flush(self) -> None:
        """Let what is in the buffer go; what is to be packed follows in SYNC_INTERVAL_S, as does the disk."""
        if self.form is None or self._bytes_to_pack >= PACK_BYTES:
            self.finish()
        if self._timer is None and (self.path is not None or self.form is not None):
            self._timer = Timer(SYNC_INTERVAL_S, self._in_time)
            self._timer.daemon = True
            self._timer.start()

    def finish(self, *, sync: bool = False) -> None:
        """Let everything go; with `sync` it is also safe on the disk."""
        with self._lock:
            if self._failed is not None:
                raise self._failed
            self._finish(sync)

    def close(self) -> None:
        """Write nothing more; the file itself stays open."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None

    def _finish(self, sync: bool) -> None:
        try:
            if self.form is not None and self._to_pack:
                lines, self._to_pack, self._bytes_to_pack = self._to_pack, [], 0
                self.file.write(self.form.pack(b"".join(lines)))
            self.file.flush()
            if sync:
                os.fsync(self.file.fileno())
        except OSError as error:
            self._fail(error)

    def _in_time(self) -> None:
        """Make safe what was written, a while ago by now."""
        with self._lock:
            if self._timer is None:  # closed
                return
            self._timer = None
            try:
                self._finish(sync=self.path is not None)
            except (UserError, OSError) as error:
                self._failed = error

    def made_with(self, facts: Row) -> None:
        """Add what this run is made with (versions, the model's commit) to FILE.meta.json.

        UserError if an earlier run used another commit of the model: a branch has moved on the Hub.
        """
        if self.path is None:
            return
        meta = read_meta(self.path)
        runs = meta.setdefault("runs", [])
        if self.continued:
            runs.append(this_run())
        for run in runs[:-1]:
            before, now = run.get("commit"), facts.get("commit")
            if before and now and before != now:
                raise UserError(
                    f"{self.path} was made with commit {before} of the model, not {now}; {AFRESH}"
                )
        runs[-1] |= facts
        replace_meta(self.path, meta)

    def existing(self) -> Iterator[Row]:
        """Yield the rows that an earlier run left in the file."""
        if self.path is not None and self.path.stat().st_size:
            yield from read_rows(str(self.path), dict, BadRows(remedy=AFRESH))

    def _fail(self, error: OSError) -> NoReturn:
        if error.errno == errno.EPIPE:  # nobody reads on, as in `| head`: the app ends quietly
            raise error
        raise UserError(f"{self.name}: {error.strerror}{self.if_it_fails}") from None
