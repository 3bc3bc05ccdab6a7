"""What a command that reads and writes rows opens: the file of bad rows, the output and the reporter."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from erprm_cli.io.bad_rows import BadRows, bad_rows
from erprm_cli.io.dry_output import open_dry_output
from erprm_cli.io.output import Output
from erprm_cli.io.writing import open_atomic_output, open_output
from erprm_cli.options import Heading, Option, Role, Streams
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter

HELD_BACK = ""  # the output, if rows are neither shown nor written


def results_target() -> str:
    """Return where the rows of results go without -o: to stdout, but to a terminal not at all."""
    return HELD_BACK if sys.stdout.isatty() else "-"


@dataclass(frozen=True, slots=True)
class ResultStreams(Streams):
    """As Streams, for commands that show their results as a table: on a terminal, rows are held back."""

    output: Annotated[
        str,
        Role.ROWS,
        Option(
            "--output",
            "-o",
            metavar="FILE",
            help="JSON Lines to write; - is stdout. Default: stdout; on a terminal, only the table is shown.",
            show_default=False,
            rich_help_panel=Heading.STREAMS,
        ),
    ] = field(default_factory=results_target)


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
    held_back = streams.output == HELD_BACK
    target = os.devnull if held_back else streams.output
    with (
        Reporter(command, streams.quiet) as reporter,
        bad_rows(streams.errors, streams.max_errors) as bad,
        opener(target, settings, source=streams.source, overwrite=streams.overwrite) as out,
    ):
        yield OpenStreams(bad, out, reporter)
        if held_back and out.count:
            reporter.info(f"{out.count:,} rows not shown; -o FILE or a pipe gets them")


@contextmanager
def open_side_output(target: str | None, streams: Streams, settings: Row) -> Iterator[Output | None]:
    """Open the second, atomic output of a command, or yield None if its flag is not given."""
    if target is None:
        yield None
        return
    with open_atomic_output(target, settings, source=streams.source, overwrite=streams.overwrite) as out:
        yield out
