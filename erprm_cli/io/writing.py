"""Opens outputs for rows: continued, atomic, or a journal.

`open_output` appends to what an earlier run of the same command left; `open_atomic_output` replaces a file
when everything went well. The settings that made FILE are beside it in FILE.meta.json, and a run with other
settings is refused. `open_journal` keeps, beside an output, finished parts of rows that are not complete.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.compression import codec, complete_end
from erprm_cli.io.dry_output import DryOutput, open_dry_journal
from erprm_cli.io.files import closing, empty, is_same_file, open_locked, replacing
from erprm_cli.io.hub import PARQUET
from erprm_cli.io.output import Output
from erprm_cli.io.provenance import START_AGAIN, check_meta, meta_path, update_meta, write_meta
from erprm_cli.io.stdout import rows_on_stdout
from erprm_cli.rows.row import Row


@contextmanager
def open_output(
    target: str, settings: Row, *, source: str = "-", overwrite: bool = False
) -> Iterator[Output]:
    """Open `target` for rows ("-" is standard output) and send other text on stdout to stderr.

    A file is continued: an incomplete last line is cut off, and UserError names the setting that differs from
    those that made the file. With `overwrite` it is emptied. The file is locked against a second run.
    """
    _check_target(target, source)
    if target == "-":
        with rows_on_stdout() as file, _finished(Output(file, None, "stdout")) as output:
            yield output
        return
    path = Path(target)
    with closing(open_locked(target)) as file:
        if not path.is_file():  # a named pipe or a device keeps nothing
            with _finished(Output(file, None, target, codec=codec(target))) as output:
                yield output
            return
        if path.stat().st_size and not overwrite:
            check_meta(path, settings)
            update_meta(path, settings)
            _cut_incomplete_row(path)
            continued = True
        else:
            continued = False
            empty(file)  # before the new settings are written: the old rows are not made with them
            write_meta(path, settings)
        after_error = "; the rows so far are kept, and the same command continues"
        with _finished(Output(file, path, target, after_error, codec(target))) as output:
            output.continued = continued
            yield output


@contextmanager
def open_journal(out: Output, settings: Row, *, overwrite: bool = False) -> Iterator[Output | None]:
    """Open a file beside `out` for finished parts of incomplete rows, which a killed run would lose.

    A journal made with other `settings` is discarded, as is any with `overwrite`. It is deleted when
    everything went well. Yields None if `out` is not a file.
    """
    if isinstance(out, DryOutput):
        yield open_dry_journal(out, settings)
        return
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
        out.finish(sync=True)  # before the journal is deleted
        path.unlink(missing_ok=True)
        meta_path(path).unlink(missing_ok=True)


@contextmanager
def open_atomic_output(
    target: str, settings: Row, *, source: str = "-", overwrite: bool = False
) -> Iterator[Output]:
    """Open `target` for the rows of one whole run: for what is cheap to compute again.

    A file appears, or changes, only when everything went well, and then in one step. A file with other
    settings is refused as in `open_output`. Standard output, named pipes and devices are written directly.
    """
    path = Path(os.path.realpath(target))  # replace the file that a link points to, not the link
    if target == "-" or (path.exists() and not path.is_file()):
        with open_output(target, settings, source=source) as output:
            yield output
        return
    _check_target(target, source)
    if path.exists() and path.stat().st_size and not overwrite:
        check_meta(path, settings)
    draft = path.with_name(f".{path.name}.tmp")  # the same name in every run, so its lock excludes others
    with ExitStack() as locks:
        if path.exists():  # no other run may append to it meanwhile, nor this one write bad rows to it
            locks.enter_context(closing(open_locked(target)))
        file = locks.enter_context(closing(open_locked(str(draft), named=target)))
        try:
            empty(file)
            after_error = "; nothing in it has changed"
            with _finished(Output(file, None, target, after_error, codec(target))) as output:
                yield output
            output.finish(sync=True)
            write_meta(path, settings)  # first: a file without settings is refused for ever
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def _check_target(target: str, source: str) -> None:
    """Raise UsageError if `target` is a parquet file or the input, before any work is done."""
    if target.endswith(PARQUET):
        raise UsageError(f"{target}: rows are written as JSON Lines, plain, .gz or .zst")
    if is_same_file(target, source):
        name = "stdout" if target == "-" else target
        raise UsageError(f"{name} is also the input; give -o another name")


@contextmanager
def _finished(output: Output) -> Iterator[Output]:
    """Write everything out at the end, also after an error."""
    try:
        yield output
    except BaseException:
        with suppress(OSError, UserError):  # the first error is the one to report
            output.finish()
        raise
    else:
        output.finish()
    finally:
        output.close()


def _cut_incomplete_row(path: Path) -> None:
    """Cut off what a killed run did not finish: all after the last newline, or the last complete member."""
    packed = codec(str(path))
    with path.open("r+b") as file:
        if packed is not None:
            try:
                file.truncate(complete_end(file, packed))
            except EOFError as error:
                raise UserError(f"{path}: {error}; {START_AGAIN}") from None
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


def write_rows(path: Path, rows: Iterable[Row], *, overwrite: bool = False) -> int:
    """Write a file of rows, all or nothing and without a sidecar; return how many rows it has.

    Raises UserError if the file exists, unless `overwrite`.
    """
    _check_target(str(path), "-")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; overwrite=True replaces it")
    with replacing(path) as draft, draft.open("xb") as file:
        with _finished(Output(file, None, str(path), codec=codec(str(path)))) as output:
            for row in rows:
                output.write(row)
        output.finish(sync=True)
    return output.count
