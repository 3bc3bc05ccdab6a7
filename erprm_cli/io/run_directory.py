"""The directory of a run of several phases, such as RAFT: its settings and its lock."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from erprm_cli.errors import UserError
from erprm_cli.io.drafts import DRAFT, remove_folder
from erprm_cli.io.files import LOCK, closing, open_locked
from erprm_cli.io.ownership import NamedFile, check_owner, sidecar
from erprm_cli.io.provenance import check_meta, update_meta, write_meta
from erprm_cli.roles import Role
from erprm_cli.rows.row import Row


@contextmanager
def run_directory(directory: Path, settings: Row, *, overwrite: bool = False) -> Iterator[None]:
    """Make and lock a run directory, or continue one that was made with the same `settings`.

    Raises UserError if a setting differs or another run has the lock. With `overwrite` an earlier run is
    deleted, but never a folder that is not a run directory. Incomplete files of a killed run are removed.
    """
    lock = directory / LOCK
    if lock.exists():  # before anything is deleted
        open_locked(str(lock), named=str(directory)).close()
    check_run_directory(directory, settings, overwrite=overwrite)
    with closing(open_locked(str(lock), named=str(directory))):
        for draft in directory.glob(f"*/.*{DRAFT}"):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
        yield


def check_run_directory(directory: Path, settings: Row, *, overwrite: bool = False) -> None:
    """Make a run directory, or check the settings of an existing one; see `run_directory`."""
    meta = sidecar(directory / "run")
    try:
        if overwrite and meta.is_file():
            check_owner(NamedFile("-o", Role.RUN, str(directory)), overwrite=True)
            remove_folder(directory)
        directory.mkdir(parents=True, exist_ok=True)
        empty = not any(directory.iterdir())
    except OSError as error:
        raise UserError(error.strerror, where=directory) from None
    if empty:
        write_meta(directory / "run", settings)
    else:
        check_meta(directory / "run", settings, named=directory)
        update_meta(directory / "run", settings)
