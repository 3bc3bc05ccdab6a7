"""Opens outputs for rows: continued, atomic, or a journal.

`open_output` appends to what an earlier run of the same command left; `open_atomic_output` replaces a file
when everything went well. The settings that made FILE are beside it in FILE.meta.json, and a run with other
settings is refused. `open_journal` keeps, beside an output, finished parts of rows that are not complete.
What may be written at all, `ownership` decides.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from erprm_cli.errors import EngineError, Stopped, UserError
from erprm_cli.io.compression import codec, complete_end
from erprm_cli.io.drafts import Draft, drafted
from erprm_cli.io.dry_output import DryOutput, open_dry_journal
from erprm_cli.io.files import closing, is_regular, open_locked
from erprm_cli.io.output import Output
from erprm_cli.io.ownership import NamedFile, check_files, check_format, sidecar
from erprm_cli.io.provenance import START_AGAIN, check_meta, update_meta, write_meta
from erprm_cli.io.stdout import rows_on_stdout
from erprm_cli.roles import Role
from erprm_cli.rows.row import Row


@contextmanager
def open_output(
    target: str, settings: Row, *, source: str = "-", overwrite: bool = False
) -> Iterator[Output]:
    """Open `target` for rows ("-" is standard output) and send other text on stdout to stderr.

    A file is continued: an incomplete last line is cut off, and UserError names the setting that differs from
    those that made the file. With `overwrite` a new file replaces it before the first row, not earlier: until
    then, anything may still be found wrong. The file is locked against a second run.
    """
    _check(target, source)
    if target == "-":
        with rows_on_stdout() as file, _finished(Output(file, None, "stdout")) as output:
            yield output
        return
    with ExitStack() as files:
        file = files.enter_context(closing(open_locked(target)))
        if not is_regular(file):  # a named pipe or a device keeps nothing
            yield files.enter_context(_finished(Output(file, None, target, codec=codec(target))))
            return
        path = Path(os.path.realpath(target))
        draft, begin = None, None
        continued = path.stat().st_size > 0 and not overwrite
        if continued:
            check_meta(path, settings, named=Path(target))
            update_meta(path, settings)
            _cut_incomplete_row(path)
        elif path.stat().st_size:
            draft = files.enter_context(drafted(path, target))
            file, begin = draft.file, partial(_start_again, draft, settings)
        else:
            write_meta(path, settings)
        after_error = "; the rows so far are kept, and the same command continues"
        output = Output(file, path, target, after_error, codec(target), draft, begin)
        output.continued = continued
        yield files.enter_context(_finished(output))


def _start_again(draft: Draft, settings: Row) -> None:
    """Replace an earlier output by its draft, which has no rows yet."""
    draft.take_place()  # first: without it, the old rows would be there with the new settings
    write_meta(draft.target, settings)


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
    sidecar(path).unlink(missing_ok=True)


@contextmanager
def open_atomic_output(
    target: str, settings: Row, *, source: str = "-", overwrite: bool = False
) -> Iterator[Output]:
    """Open `target` for the rows of one whole run: for what is cheap to compute again.

    A file appears, or changes, only when everything went well, and then in one step. A file with other
    settings is refused as in `open_output`. Standard output, named pipes and devices are written directly.
    """
    path = Path(os.path.realpath(target))  # replace the file that a link points to, not the link
    if target == "-" or (os.path.exists(target) and not path.is_file()):
        with open_output(target, settings, source=source) as output:
            yield output
        return
    _check(target, source)
    if path.exists() and path.stat().st_size and not overwrite:
        check_meta(path, settings, named=Path(target))
    with ExitStack() as files:
        if path.exists():  # no other run may append to it meanwhile, nor this one write bad rows to it
            files.enter_context(closing(open_locked(target)))
        draft = files.enter_context(drafted(path, target))
        output = Output(draft.file, None, target, "; nothing in it has changed", codec(target), draft)
        with _finished(output):
            yield output
        write_meta(path, settings)  # first: a file without settings is refused for ever
        draft.take_place()


def _check(target: str, source: str) -> None:
    """Raise UserError if `target` may not be written, or is the input."""
    check_files([NamedFile("-o", Role.ROWS, target), NamedFile("the input", Role.READ, source)])


@contextmanager
def _finished(output: Output) -> Iterator[Output]:
    """Write everything out at the end, also after an error."""
    try:
        yield output
    except BaseException as error:
        with suppress(OSError, UserError, Stopped):  # the first error is the one to report
            output.finish()
        if isinstance(error, EngineError | Stopped) and output.path is not None:
            error.kept_in = output.name
        raise
    else:
        output.begin()
        output.finish(sync=True)
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
                raise UserError(error, where=path, remedy=START_AGAIN) from None
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
    check_format(NamedFile("path", Role.ROWS, str(path)))
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; overwrite=True replaces it")
    with drafted(path) as draft:
        with _finished(Output(draft.file, None, str(path), codec=codec(str(path)), draft=draft)) as output:
            for row in rows:
                output.write(row)
        draft.take_place()
    return output.count
