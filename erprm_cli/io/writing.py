"""Rows in and rows out: the only place that knows files, pipes and resuming.

Reading: `read_rows` streams; a bad line names its place and stops the command, or goes to --errors.
.gz and .zst are packed and unpacked by their suffix; parquet files and hf:// datasets are read as lines.
Writing: `open_output` appends to what an unbroken run of the same command would have written;
`open_whole_output` replaces a file by one that a whole run made. The settings that made a file lie beside it
in FILE.meta.json, and a run with other settings is refused. `open_journal` keeps, beside an output, what is
finished of rows that are not.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.compression import codec, whole_end
from erprm_cli.io.files import closing, empty, is_same_file, open_locked
from erprm_cli.io.hub import PARQUET
from erprm_cli.io.output import Output
from erprm_cli.io.provenance import AFRESH, check_meta, meta_path, write_meta
from erprm_cli.io.stdout import rows_on_stdout
from erprm_cli.rows.row import Row


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
        with rows_on_stdout() as file, _flushed(Output(file, None, "stdout")) as output:
            yield output
        return
    path, form = Path(target), codec(target)
    with closing(open_locked(target)) as file:
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
            empty(file)  # before the new settings are written: these rows are not made with them
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
def open_atomic_output(
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
            locked.enter_context(closing(open_locked(target)))
        file = locked.enter_context(closing(open_locked(str(draft), named=target)))
        try:
            empty(file)
            with _flushed(Output(file, None, target, "; nothing in it has changed", codec(target))) as output:
                yield output
            output.finish(sync=True)
            write_meta(path, settings)  # first: without it, the file would be refused for ever
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def _check_target(target: str, source: str) -> None:
    """Raise UsageError if `target` cannot be written, whatever is on the disk: no work is lost later."""
    if target.endswith(PARQUET):
        raise UsageError(f"{target}: rows are written as JSON Lines, plain, .gz or .zst")
    if is_same_file(target, source):
        name = "stdout" if target == "-" else target
        raise UsageError(f"{name} is the input too; give -o another name")


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
