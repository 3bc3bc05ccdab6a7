"""The output of a dry run: the rows of an earlier run are read, nothing is written."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from erprm_cli.errors import UserError
from erprm_cli.io.output import Output
from erprm_cli.io.provenance import check_meta
from erprm_cli.rows.row import Row


class DryOutput(Output):
    """Counts the rows that are written to it."""

    def __init__(self, path: Path | None, name: str) -> None:
        """Take the rows of the file `path` for those that exist; None: there are none."""
        super().__init__(io.BytesIO(), path, name)
        self.continued = path is not None

    def write_lines(self, lines: Iterable[bytes]) -> None:
        """Drop the rows."""

    def flush(self) -> None:
        """Write nothing."""

    def finish(self, *, sync: bool = False) -> None:
        """Write nothing."""

    def add_provenance(self, provenance: Row) -> None:
        """Record nothing."""


@contextmanager
def open_dry_output(target: str, settings: Row, *, overwrite: bool = False) -> Iterator[DryOutput]:
    """Yield what a run that writes `target` would continue; UserError if it would be refused."""
    path = Path(os.path.realpath(target))
    exists = target != "-" and path.is_file() and path.stat().st_size > 0
    if exists and not overwrite:
        check_meta(path, settings, named=Path(target))
    yield DryOutput(path if exists and not overwrite else None, target)


def open_dry_journal(out: Output, settings: Row) -> DryOutput | None:
    """Return the journal beside `out` that a run with `settings` would continue, or None."""
    if out.path is None:
        return None
    path = out.path.with_name(out.path.name + ".journal")
    try:
        with open_dry_output(str(path), settings) as journal:
            return journal
    except UserError:  # a run would discard it
        return None
