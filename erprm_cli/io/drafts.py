"""Drafts: what is written beside a file or folder, and takes its place in one move when it is complete.

A draft is a new file under a name that only erprm uses, made exclusively, so never through a link. It is
locked while its run lives; what a killed run left under that name is removed.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from erprm_cli.errors import UserError
from erprm_cli.io.files import BUFFER_BYTES, check_intact, json_bytes, lock
from erprm_cli.io.ownership import NamedFile, check_owner

DRAFT = ".erprm.tmp"  # ends the name of a draft


class Draft:
    """The draft of one file, open and locked. `drafted` makes it."""

    def __init__(self, target: Path, named: str) -> None:
        """Make the draft of `target`, with its owner and mode if it exists; errors call it `named`.

        Raises UserError if another run is writing it, or it cannot be made.
        """
        self.target, self.named = target, named
        self.path = target.with_name(f".{target.name}{DRAFT}")
        self.before = _status(target)
        self.file = self._make()
        self._keep_owner()

    def _make(self) -> BinaryIO:
        # Never readable for more people than the file that it replaces.
        mode = 0o666 if self.before is None else 0o600
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            try:
                file = open(os.open(self.path, flags, mode), "wb", buffering=BUFFER_BYTES)
            except FileExistsError:
                self._remove_stale()
                continue
            except OSError as error:
                raise UserError(error.strerror, where=self.named) from None
            if lock(file, self.path, self.named):
                return file
            file.close()  # another run took it for a stale one between the two calls

    def _remove_stale(self) -> None:
        """Remove the draft of a killed run; UserError if its run lives, or it is not the draft of a run."""
        try:
            if not stat.S_ISREG(os.lstat(self.path).st_mode):
                raise UserError(
                    f"{self.path} is in the way and not a file", where=self.named, remedy="move it away"
                )
            descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(error.strerror, where=self.path) from None
        with open(descriptor, "rb") as stale:
            if lock(stale, self.path, self.named):
                self.path.unlink()

    def _keep_owner(self) -> None:
        if self.before is None:
            return
        ours, owner = os.fstat(self.file.fileno()), (self.before.st_uid, self.before.st_gid)
        try:
            if (ours.st_uid, ours.st_gid) != owner:
                os.fchown(self.file.fileno(), *owner)
            os.fchmod(self.file.fileno(), stat.S_IMODE(self.before.st_mode))
        except PermissionError:
            self.remove()
            raise UserError(
                f"{self.named} belongs to another user or group, which a new file cannot; give another name"
            ) from None

    def take_place(self) -> None:
        """Replace the file by what was written; UserError if another process has changed either of them."""
        self.file.flush()
        check_intact(self.file, self.path, self.named)
        now = _status(self.target)
        if _identity(now) != _identity(self.before):
            what = "appeared" if self.before is None else "was changed or deleted"
            raise UserError(f"{self.named} {what} while the command was at work; it is left as it is now")
        try:
            os.replace(self.path, self.target)
        except OSError as error:
            raise UserError(error.strerror, where=self.named) from None

    def remove(self) -> None:
        """Remove the draft, if it has not taken its place."""
        with suppress(OSError):
            if os.path.samestat(os.lstat(self.path), os.fstat(self.file.fileno())):
                self.path.unlink()


@contextmanager
def drafted(target: Path, named: str | None = None) -> Iterator[Draft]:
    """Make the draft of a file; it is removed at the end unless it took the place of the file."""
    draft = Draft(target, named or str(target))
    try:
        yield draft
    finally:
        draft.remove()
        with suppress(OSError):  # an error of the writer was reported
            draft.file.close()


@contextmanager
def replacing(path: Path, named: str | None = None) -> Iterator[BinaryIO]:
    """Yield a new file, which replaces `path` if no error is raised. Raises OSError or UserError."""
    with drafted(path, named) as draft:
        yield draft.file
        draft.take_place()


@contextmanager
def report_file(file: NamedFile) -> Iterator[BinaryIO]:
    """Yield a new file for a page or a plot, which becomes the one that a flag names if no error is raised.

    A named pipe or a device is written directly. Raises UserError if the file cannot be written.
    """
    path = Path(os.path.realpath(file.name))  # replace the file that a link points to, not the link
    try:
        if os.path.exists(file.name) and not path.is_file():
            with open(file.name, "wb") as opened:
                yield opened
            return
        check_owner(file)  # again: it may have appeared since the command began
        with replacing(path, file.name) as opened:
            yield opened
    except OSError as error:
        raise UserError(error.strerror, where=file.name) from None


def replace_json(path: Path, value: object) -> None:
    """Replace a JSON file, all or nothing. Raises UserError if that fails."""
    try:
        with replacing(path) as file:
            file.write(json_bytes(value))
    except OSError as error:
        raise UserError(error.strerror, where=path) from None


@contextmanager
def new_folder(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which replaces `path` in one move if no error is raised.

    `check` is called right before, and raises UserError if what is there must stay: the new folder then
    keeps its temporary name. Raises UserError if the folder cannot be made, filled or renamed.
    """
    path = Path(os.path.realpath(path))  # replace the folder that a link points to, not the link
    draft, kept = _folder_draft(path), False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
    except OSError as error:
        raise UserError(error.strerror, where=path) from None
    try:
        yield draft
        try:
            check()
        except UserError as error:
            kept = True
            raise UserError(f"{error}; the new folder is complete: {draft}") from None
        if (before := _status(path)) is not None:
            draft.chmod(stat.S_IMODE(before.st_mode))
        if before is None or not _exchanged(draft, path):
            _move(draft, path)
    except OSError as error:
        raise UserError(error.strerror or error, where=path) from None
    finally:
        if not kept:
            shutil.rmtree(draft, ignore_errors=True)  # what was at `path`, or what was not finished


def remove_folder(path: Path) -> None:
    """Delete a folder that erprm wrote: in one move it is gone, and what takes time is done after."""
    path = Path(os.path.realpath(path))
    path.rename(old := _folder_draft(path))
    shutil.rmtree(old)


def _folder_draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; return False where the system cannot."""
    import ctypes  # here, because `--help` loads this module

    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and not renameat2(here, bytes(one), here, bytes(other), exchange)


def _move(draft: Path, path: Path) -> None:
    """Move `draft` to `path` and what was there, if anything, to `draft`; undone if it fails half-way."""
    old = _folder_draft(draft)
    with suppress(FileNotFoundError):
        path.rename(old)
    try:
        draft.rename(path)
    except OSError:
        old.rename(path)
        raise
    with suppress(FileNotFoundError):
        old.rename(draft)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result | None) -> tuple[int, ...]:
    """Return what differs when a file was replaced or changed."""
    return () if status is None else (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
