"""Rows in and rows out: the only place that knows files, pipes and resuming.

Reading: `read_rows` streams; a bad line names its place and stops the command, or goes to --errors.
Writing: `open_output` appends to what an unbroken run of the same command would have written. The settings
that made a file lie beside it in FILE.meta.json, and a run with other settings is refused.
"""

import fcntl
import gzip
import io
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast

import jsonlines
import orjson

from erprm_cli import __version__
from erprm_cli.errors import RowError, UserError

Row = dict[str, Any]
Record = TypeVar("Record")

SHIPPED = "tiny:"  # tiny:train and tiny:test are the shipped problems
SYNC_INTERVAL_S = 3.0
DUMPS_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY


def to_line(row: Row) -> bytes:
    """Return `row` as one line of JSON in UTF-8, newline included."""
    return orjson.dumps(row, option=DUMPS_OPTIONS)


class BadRows:
    """Where rows go that cannot be used: the first stops the command, or all are written to a file."""

    def __init__(self, target: str | None = None, limit: int | None = None) -> None:
        """Collect at most `limit` rows in the file `target`; without a target, take none."""
        self.count = 0
        self.target = target
        self.limit = limit
        self._file: BinaryIO | None = None

    def add(self, place: str, reason: str, line: bytes | str) -> None:
        """Record a bad row, or raise UserError when there is nowhere to record it."""
        if self.target is None:
            raise UserError(f"{place}: {reason}. --errors FILE sets such rows aside and goes on")
        self.count += 1
        if self._file is None:
            self._file = _open_write(self.target)
        text = line if isinstance(line, str) else line.decode("utf-8", "backslashreplace")
        self._file.write(to_line({"place": place, "reason": reason, "line": text.rstrip("\r\n")}))
        self._file.flush()
        if self.limit is not None and self.count > self.limit:
            raise UserError(
                f"more than {self.limit} bad rows, see {self.target}; the last: {place}: {reason}"
            )

    def close(self) -> None:
        """Close the file; raise UserError if any row was bad, so that the exit status tells."""
        if self._file is not None:
            self._file.close()
            raise UserError(f"{self.count:,} bad rows went to {self.target}; all others are done")


@contextmanager
def bad_rows(target: str | None, limit: int | None = None) -> Iterator[BadRows]:
    """Open --errors FILE for one command; leaving it raises UserError if any row went there."""
    bad = BadRows(target, limit)
    yield bad
    bad.close()


def read_rows(
    source: str,
    check: Callable[[Row], Record],
    bad: BadRows | None = None,
    limit: int | None = None,
) -> Iterator[Record]:
    """Yield `check(row)` for each non-blank line of `source` ("-" is standard input), lazily.

    A line that is no JSON object, or for which `check` raises RowError, is handed to `bad` with its place.
    At most `limit` rows are read.
    """
    bad = bad or BadRows()
    with open_input(source) as file:
        lines = Lines(source, file)
        reader = jsonlines.Reader(lines, loads=orjson.loads)
        for _ in count() if limit is None else range(limit):
            try:
                yield check(cast(Row, reader.read(type=dict, skip_empty=True)))
            except EOFError:
                return
            except jsonlines.InvalidLineError as error:
                bad.add(lines.place, _why(error), lines.line)
            except RowError as error:
                bad.add(lines.place, str(error), lines.line)


class Lines:
    """The lines of an open file, and the place ("FILE:LINE") and bytes of the one given last."""

    def __init__(self, source: str, file: Iterable[bytes]) -> None:
        self.source = "stdin" if source == "-" else source
        self.file = file
        self.number = 0
        self.line = b""

    def __iter__(self) -> Iterator[bytes]:
        for self.number, self.line in enumerate(self.file, start=1):
            yield self.line

    @property
    def place(self) -> str:
        return f"{self.source}:{self.number}"


@contextmanager
def open_input(source: str) -> Iterator[IO[bytes]]:
    """Open `source` for bytes: a file (.gz is unpacked), "-" for standard input, or tiny:train, tiny:test."""
    if source == "-":
        if sys.stdin.isatty():
            print("erprm: reading rows from the terminal; Ctrl-D ends them", file=sys.stderr)
        yield sys.stdin.buffer
        return
    path = Path(source)
    if source.startswith(SHIPPED):
        shipped = files("erprm_cli.templates") / "tiny" / f"{source.removeprefix(SHIPPED)}.jsonl"
        path = Path(str(shipped))
    try:
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from None
    with cast(IO[bytes], opened):
        yield cast(IO[bytes], opened)


class Output:
    """An open place for rows. What `existing` yields was written by an earlier run of the same command."""

    def __init__(self, file: BinaryIO, path: Path | None) -> None:
        self.path = path
        self.file = file
        self.count = 0
        self._synced = time.monotonic()

    def write(self, row: Row) -> None:
        """Write one row, at once; at least every few seconds it is also safe on the disk."""
        self.file.write(to_line(row))
        self.file.flush()
        self.count += 1
        if self.path is not None and time.monotonic() - self._synced > SYNC_INTERVAL_S:
            os.fsync(self.file.fileno())
            self._synced = time.monotonic()

    def existing(self) -> Iterator[Row]:
        """Yield the rows that an earlier run left in the file."""
        if self.path is not None and self.path.stat().st_size:
            yield from read_rows(str(self.path), dict)


@contextmanager
def open_output(
    target: str, settings: Row, *, source: str = "-", overwrite: bool = False
) -> Iterator[Output]:
    """Open `target` for rows ("-" is standard output) and keep everything else off that stream.

    A file is continued: a torn last line is cut, and `settings` must equal those that made it, or UserError
    names the one that differs. The file is locked, so that two runs never write it together.
    """
    if target == "-":
        with _rows_on_stdout() as file:
            yield Output(file, None)
        return
    path = Path(target)
    if source != "-" and path.exists() and Path(source).exists() and path.samefile(source):
        raise UserError(f"{target} is the input too; give -o another name")
    with _open_write(target, keep=True) as file:
        meta = path.with_name(path.name + ".meta.json")
        if path.is_file() and path.stat().st_size and not overwrite:
            _check_meta(meta, settings, path)
            _cut_torn_line(path)
        elif path.is_file():
            _write_meta(meta, settings)
            file.truncate(0)
        try:
            yield Output(file, path)
        except OSError as error:  # a full disk shows when a row is written
            raise UserError(f"{target}: {error.strerror}; the rows so far are kept") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` and rename it there if all went well: all or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _why(error: jsonlines.InvalidLineError) -> str:
    cause = error.__cause__
    if cause is None:
        return "not a JSON object"
    return "not UTF-8" if isinstance(cause, UnicodeDecodeError) else f"not JSON: {cause}"


def _open_write(target: str, keep: bool = False) -> BinaryIO:
    """Open a file to append to; it is emptied by `_empty` only once it is ours."""
    try:
        file = open(target, "ab")
    except OSError as error:
        raise UserError(f"{target}: {error.strerror}") from None
    try:  # the lock goes with the process, however it ends
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f"{target}: another process is writing it") from None
    if not keep and os.path.isfile(target):  # not /dev/stderr or a named pipe
        file.truncate(0)
    return file


def _write_meta(path: Path, settings: Row) -> None:
    meta = {
        "settings": settings,
        "erprm": __version__,
        "command": shlex.join(["erprm", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with replacing(path) as draft:
        draft.write_bytes(orjson.dumps(meta, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _check_meta(meta: Path, settings: Row, path: Path) -> None:
    remedy = "--overwrite starts afresh, another -o keeps both"
    try:
        made_with = orjson.loads(meta.read_bytes())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} has rows, but no readable {meta.name} says how they were made; {remedy}"
        ) from None
    asked = orjson.loads(orjson.dumps(settings))  # as it would have been read back
    for name in sorted(made_with.keys() | asked.keys()):
        before, now = made_with.get(name), asked.get(name)
        if before != now:
            raise UserError(f"{path} was made with {name} {before}, not {now}; {remedy}")


def _cut_torn_line(path: Path) -> None:
    """Cut what follows the last newline: the line that a killed run did not finish."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        block = 1 << 16
        while end:
            begin = max(0, end - block)
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                file.truncate(begin + newline + 1)
                return
            end = begin
        file.truncate(0)


@contextmanager
def _rows_on_stdout() -> Iterator[BinaryIO]:
    """Yield standard output for rows, while all else that is printed there goes to standard error.

    C libraries write to descriptor 1 itself, so the descriptor moves and not only `sys.stdout`.
    """
    sys.stdout.flush()
    try:
        kept = os.dup(sys.stdout.fileno())
    except (io.UnsupportedOperation, AttributeError):  # captured in memory: there is no descriptor
        captured = cast(BinaryIO, sys.stdout.buffer)
        with redirect_stdout(sys.stderr):
            yield captured
        return
    os.dup2(sys.stderr.fileno(), 1)
    try:
        with os.fdopen(kept, "wb", closefd=False) as file:
            yield file
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
