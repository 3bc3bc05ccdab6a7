"""Rows in and rows out: the only place that knows files, pipes and resuming.

Reading: `read_rows` streams; a bad line names its place and stops the command, or goes to --errors.
.gz and .zst are packed and unpacked by their suffix; parquet files and hf:// datasets are read as lines.
Writing: `open_output` appends to what an unbroken run of the same command would have written;
`open_whole_output` replaces a file by one that a whole run made. The settings that made a file lie beside it
in FILE.meta.json, and a run with other settings is refused. `open_journal` keeps, beside an output, what is
finished of rows that are not.
"""

import errno
import io
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from itertools import count
from operator import length_hint
from pathlib import Path
from threading import Lock, Timer
from typing import Any, BinaryIO, NoReturn, TypeVar, cast

import orjson

from erprm_cli import strict_json
from erprm_cli.compression import Codec, codec, unpacked, whole_end
from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.hub_rows import HUB, PARQUET, hub_lines, parquet_lines
from erprm_cli.json_arrays import array_lines
from erprm_cli.locking import BUFFER_BYTES, LOCK, is_regular, open_locked
from erprm_cli.sidecars import AFRESH, check_meta, meta_path, read_meta, replace_meta, this_run, write_meta

Row = dict[str, Any]
Record = TypeVar("Record")

SHIPPED = "tiny:"  # tiny:train and tiny:test are the shipped problems
BLOCK_BYTES = 1 << 16  # read at a time; more of it would not stay in the processor's cache
SYNC_INTERVAL_S = 3.0
BOM = b"\xef\xbb\xbf"
DUMPS_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
PACK_BYTES = 1 << 20  # of rows in one packed member


def to_line(row: Row) -> bytes:
    """Return `row` as one line of JSON in UTF-8, newline included."""
    return orjson.dumps(row, option=DUMPS_OPTIONS)


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
            _empty(self._file)
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
            _empty(self._file)  # of what an earlier run left
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


def read_rows(
    source: str,
    check: Callable[[Row], Record],
    bad: BadRows | None = None,
    limit: int | None = None,
    expand: Callable[[Row], Iterable[Row]] | None = None,
) -> Iterator[Record]:
    """Yield `check(row)` for each non-blank line of `source` ("-" is standard input), lazily.

    A line that is no JSON object, or for which `check` raises RowError, is handed to `bad` with its place.
    At most `limit` rows are read. `expand` turns the row of a line into those to check: foreign formats.
    """
    import jsonlines  # here, as `label` goes without

    bad = bad or BadRows()
    with open_lines(source, bad) as lines:
        reader = jsonlines.Reader(lines, loads=strict_json.loads)
        for _ in count() if limit is None else range(limit):
            try:
                row = cast(Row, reader.read(type=dict, skip_empty=True))
                if expand is None:
                    yield check(row)
                    continue
                for own in expand(row):
                    try:
                        yield check(own)
                    except RowError as error:  # the other rows of the line may be sound
                        bad.add(lines.place, str(error), lines.line)
            except EOFError:
                return
            except jsonlines.InvalidLineError as error:
                bad.add(lines.place, strict_json.why(error.__cause__), lines.line)
            except RowError as error:
                bad.add(lines.place, str(error), lines.line)


class Lines:
    """The lines of an open file, and the place ("FILE:LINE") and bytes of the one given last.

    What has arrived is given out before more is waited for; `before_wait` is called each time before that,
    so that a command which buffers its rows can let them go.
    """

    def __init__(
        self, source: str, file: Iterable[bytes], before_wait: Callable[[], None] | None = None
    ) -> None:
        self.source = "stdin" if source == "-" else source
        self.file = file
        self.before_wait = before_wait
        self._before = 0  # lines of earlier blocks
        self._block: list[bytes] = []
        self._left: Iterator[bytes] = iter(())

    def __iter__(self) -> Iterator[bytes]:
        for block in self.blocks():
            yield from block

    def blocks(self) -> Iterator[Iterator[bytes]]:
        """Yield the lines that each read completes; use them up before the next."""
        for block in self._blocks():
            self._block, self._left = block, iter(block)
            yield self._left  # no bookkeeping per line: the place is worked out when it is asked for
            self._before += len(block)
            self._block = []

    @property
    def number(self) -> int:
        return self._before + len(self._block) - length_hint(self._left)

    @property
    def line(self) -> bytes:
        return self._block[-1 - length_hint(self._left)]

    @property
    def place(self) -> str:
        return f"{self.source}:{self.number}"

    def _blocks(self) -> Iterator[list[bytes]]:
        """Yield the lines, without their newlines, that each read completes."""
        torn: list[bytes] = []  # parts of the line whose newline has not arrived
        mark = BOM
        for data in self._reads():
            block = data.split(b"\n")
            torn.append(block[0])
            if len(block) > 1:
                block[0] = b"".join(torn).removeprefix(mark)
                mark = b""
                torn = [block.pop()]
                yield block
        if last := b"".join(torn).removeprefix(mark):
            yield [last]

    def _reads(self) -> Iterator[bytes]:
        """Yield what each read gives, without waiting for more than it needs to."""
        read_some = getattr(self.file, "read1", None)
        reads = iter(self.file) if read_some is None else iter(lambda: read_some(BLOCK_BYTES), b"")
        if self.source.removesuffix(".gz").endswith(".json"):
            reads = array_lines(reads)
        while True:
            if self.before_wait is not None:
                self.before_wait()
            try:
                data = next(reads, b"")
            except (OSError, EOFError) as error:  # a directory on stdin; a .gz cut short
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                raise UserError(f"{self.source}, after line {self.number:,}: {reason}") from None
            if not data:
                return
            yield data


@contextmanager
def open_lines(
    source: str, bad: BadRows | None = None, before_wait: Callable[[], None] | None = None
) -> Iterator[Lines]:
    """Open `source` for its lines; UsageError if it is also where bad rows go."""
    if bad is not None and bad.target is not None and _is_same_file(bad.target, source):
        raise UsageError(f"--errors {bad.target} is the input too; give it another name")
    with open_input(source) as file:
        yield Lines(source, file, before_wait)


@contextmanager
def open_input(source: str) -> Iterator[Iterable[bytes]]:
    """Open `source` for bytes: a file, unpacked by its suffix, "-" for standard input, tiny:train, tiny:test.

    Of a parquet file and a dataset (hf://...) the bytes are lines of JSON, made as they are read.
    """
    if source.startswith(HUB):
        yield hub_lines(source)
        return
    if source == "-":
        if sys.stdin.isatty():
            print("erprm: reading rows from the terminal; Ctrl-D ends them", file=sys.stderr)
        yield sys.stdin.buffer
        return
    path = Path(source)
    if source.startswith(SHIPPED):
        from importlib.resources import files

        shipped = files("erprm_cli.templates") / "tiny" / f"{source.removeprefix(SHIPPED)}.jsonl"
        path = Path(str(shipped))
    form = codec(source)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from None
    with file:
        if path.suffix == PARQUET:
            yield parquet_lines(source)
        else:
            yield file if form is None else unpacked(file, form)


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


@contextmanager
def open_output(
    target: str, settings: Row, *, source: str = "-", overwrite: bool = False
) -> Iterator[Output]:
    """Open `target` for rows ("-" is standard output) and keep everything else off that stream.

    A file is continued: a torn last line is cut, and `settings` must equal those that made it, or UserError
    names the one that differs. The file is locked, so that two runs never write it together.
    """
    _check_target(target, source)
    if target == "-":
        with _rows_on_stdout() as file, _flushed(Output(file, None, "stdout")) as output:
            yield output
        return
    path, form = Path(target), codec(target)
    with _closing(open_locked(target)) as file:
        if not path.is_file():  # a named pipe or a device keeps nothing
            with _flushed(Output(file, None, target, form=form)) as output:
                yield output
            return
        if path.stat().st_size and not overwrite:
            check_meta(path, settings)
            _cut_torn_line(path)
            continued = True
        else:
            continued = False
            _empty(file)  # before the new settings are written: these rows are not made with them
            write_meta(path, settings)
        kept = "; the rows so far are kept, and the same command continues"
        with _flushed(Output(file, path, target, kept, form)) as output:
            output.continued = continued
            yield output


@contextmanager
def open_journal(out: Output, settings: Row, *, overwrite: bool = False) -> Iterator[Output | None]:
    """Open a file beside `out` for what is finished though no row is: a kill does not lose it.

    Its rows count only with `settings`; made with others, or with `overwrite`, it starts empty. It is
    deleted when all went well. None where `out` keeps nothing.
    """
    if out.path is None:
        yield None
        return
    path = out.path.with_name(out.path.name + ".journal")
    stale = True
    with suppress(UserError, FileNotFoundError):
        check_meta(path, settings)
        stale = False
    with open_output(str(path), settings, overwrite=overwrite or stale) as journal:
        yield journal
        out.finish(sync=True)  # before the journal goes
        path.unlink(missing_ok=True)
        meta_path(path).unlink(missing_ok=True)


@contextmanager
def open_whole_output(
    target: str, settings: Row, *, source: str = "-", overwrite: bool = False
) -> Iterator[Output]:
    """Open `target` for rows that one run writes from first to last: for what is cheap to make again.

    A file appears, or changes, only when all went well, and is then replaced at one stroke. A file that was
    made with other settings, or by something else, is refused as in `open_output`; standard output, named
    pipes and devices are written as they come.
    """
    path = Path(os.path.realpath(target))  # replace what a link points to, not the link
    if target == "-" or (path.exists() and not path.is_file()):
        with open_output(target, settings, source=source) as output:
            yield output
        return
    _check_target(target, source)
    if path.exists() and path.stat().st_size and not overwrite:
        check_meta(path, settings)
    draft = path.with_name(f".{path.name}.tmp")  # one name: its lock keeps a second run away
    with ExitStack() as locked:
        if path.exists():  # nor may a run that appends, or --errors, write it meanwhile
            locked.enter_context(_closing(open_locked(target)))
        file = locked.enter_context(_closing(open_locked(str(draft), named=target)))
        try:
            _empty(file)
            with _flushed(Output(file, None, target, "; nothing in it has changed", codec(target))) as output:
                yield output
            output.finish(sync=True)
            write_meta(path, settings)  # first: without it, the file would be refused for ever
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


@contextmanager
def run_directory(directory: Path, settings: Row, *, overwrite: bool = False) -> Iterator[None]:
    """Make a run directory, or make sure that the one there was made with `settings`, and lock it.

    UserError if it was made otherwise or another run works in it. With `overwrite` an earlier run is deleted;
    a folder that no run made never is. What a killed run left half-written is removed.
    """
    lock = directory / LOCK
    if lock.exists():  # before anything is deleted
        open_locked(str(lock), named=str(directory)).close()
    check_run_directory(directory, settings, overwrite=overwrite)
    with _closing(open_locked(str(lock), named=str(directory))):
        for draft in directory.glob("*/.*.tmp"):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
        yield


def check_run_directory(directory: Path, settings: Row, *, overwrite: bool = False) -> None:
    """As `run_directory`, without a lock."""
    meta = meta_path(directory / "run")
    try:
        if overwrite and meta.is_file():
            shutil.rmtree(directory)
        directory.mkdir(parents=True, exist_ok=True)
        empty = not any(directory.iterdir())
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}") from None
    if empty:
        write_meta(directory / "run", settings)
    else:
        check_meta(directory / "run", settings, named=directory)


def _check_target(target: str, source: str) -> None:
    """Raise UsageError if `target` cannot be written, whatever is on the disk: no work is lost later."""
    if target.endswith(PARQUET):
        raise UsageError(f"{target}: rows are written as JSON Lines, plain, .gz or .zst")
    if _is_same_file(target, source):
        name = "stdout" if target == "-" else target
        raise UsageError(f"{name} is the input too; give -o another name")


def _is_same_file(target: str, source: str) -> bool:
    """Whether both are one regular file, also when the shell has opened it as stdin or stdout."""
    try:
        ours = os.fstat(sys.stdout.fileno()) if target == "-" else os.stat(target)
        theirs = os.fstat(sys.stdin.fileno()) if source == "-" else os.stat(source)
    except (OSError, ValueError, AttributeError):  # not there yet; captured in memory
        return False
    return stat.S_ISREG(ours.st_mode) and os.path.samestat(ours, theirs)


def _empty(file: BinaryIO) -> None:
    if is_regular(file):  # not /dev/stderr or a named pipe
        file.truncate(0)


@contextmanager
def _flushed(output: Output) -> Iterator[Output]:
    try:
        yield output
    except BaseException:
        with suppress(OSError, UserError):  # the first error is the one to tell
            output.finish()
        raise
    else:
        output.finish()
    finally:
        output.close()


@contextmanager
def _closing(file: BinaryIO) -> Iterator[BinaryIO]:
    """Close `file` at the end. What fails then has failed in `Output` before, and was told."""
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def _cut_torn_line(path: Path) -> None:
    """Cut what a killed run did not finish: what follows the last newline, or the last whole member."""
    form = codec(str(path))
    with path.open("r+b") as file:
        if form is not None:
            try:
                file.truncate(whole_end(file, form))
            except EOFError as error:
                raise UserError(f"{path}: {error}; {AFRESH}") from None
            return
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
        with _closing(os.fdopen(kept, "wb", buffering=BUFFER_BYTES, closefd=False)) as file:
            yield file
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
