"""The directory of a run of several phases: its settings and its lock."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from erprm_cli.errors import UserError
from erprm_cli.io.files import LOCK, closing, open_locked
from erprm_cli.io.provenance import check_meta, meta_path, write_meta
from erprm_cli.rows.row import Row


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
    with closing(open_locked(str(lock), named=str(directory))):
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
