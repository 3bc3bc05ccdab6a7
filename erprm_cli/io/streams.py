"""What a command that reads and writes rows opens: the file of bad rows, the output and the reporter."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from erprm_cli.io.bad_rows import BadRows, bad_rows
from erprm_cli.io.dry_output import open_dry_output
from erprm_cli.io.output import Output
from erprm_cli.io.writing import open_atomic_output, open_output
from erprm_cli.options import Streams
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter


class OpenStreams(NamedTuple):
    bad: BadRows
    out: Output
    reporter: Reporter


@contextmanager
def open_streams(
    command: str, streams: Streams, settings: Row, *, atomic: bool = False, dry_run: bool = False
) -> Iterator[OpenStreams]:
    """Open what the flags of `command` name, for rows that are made with `settings`.

    With `atomic` the output is replaced only when everything went well; otherwise an earlier output is
    continued. Raises UserError at the end if there were bad rows: by then the output is complete. In a dry
    run nothing is written, bad rows included.
    """
    if dry_run:
        with (
            Reporter(command, streams.quiet) as reporter,
            bad_rows(None, None) as bad,
            open_dry_output(streams.output, settings, overwrite=streams.overwrite) as dry,
        ):
            yield OpenStreams(bad, dry, reporter)
        return
    opener = open_atomic_output if atomic else open_output
    with (
        Reporter(command, streams.quiet) as reporter,
        bad_rows(streams.errors, streams.max_errors) as bad,
        opener(streams.output, settings, source=streams.source, overwrite=streams.overwrite) as out,
    ):
        yield OpenStreams(bad, out, reporter)


@contextmanager
def open_side_output(target: str | None, streams: Streams, settings: Row) -> Iterator[Output | None]:
    """Open the second, atomic output of a command, or yield None if its flag is not given."""
    if target is None:
        yield None
        return
    with open_atomic_output(target, settings, source=streams.source, overwrite=streams.overwrite) as out:
        yield out
