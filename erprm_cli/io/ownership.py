"""Which files a command may write: none that erprm did not write, none of its inputs, none twice.

`check_files` decides this for all flags of a command, before any work; whoever replaces a file later asks
again for that one. What erprm wrote is known by its marks:

- rows have FILE.meta.json beside them, with the settings and runs that made them
- bad rows (--errors) are JSON objects of place, reason and line
- a plot, a page or a table has a mark in its metadata; a table in CSV has a sidecar, as rows
- the folder of a model has erprm.json, which lists its files
- the folder of a run has run.meta.json; what is in it has a sidecar of the same command, or is a model

What is empty can always be written: nothing in it can be lost. So can devices and named pipes, which keep
nothing.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations, islice, permutations
from pathlib import Path
from typing import NamedTuple

from erprm_cli import shipped
from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.files import LOCK, read_object
from erprm_cli.roles import Role
from erprm_cli.rows.row import Row

CARD = "erprm.json"  # settings, results and files of a trained model, in its folder
EVENTS = "runs"  # TensorBoard's files, in the folder of a model
WORK = re.compile(r"\..+\.(?:run|erprm\.tmp)")  # the work folder of a training, and drafts
SIDECAR, JOURNAL = ".meta.json", ".journal"  # added to the name of a file of rows
LONGEST_ADDED = f".{JOURNAL}{SIDECAR}.erprm.tmp"  # the draft of the sidecar of a journal
CSV = ".csv"
SUFFIXES = {
    Role.PLOT: (".png", ".svg", ".pdf"),
    Role.TABLE: (".md", ".tex", CSV),
    Role.PAGE: (".html", ".htm"),
}
# Names that promise something other than JSON Lines.
OTHER_FORMATS = (
    *(".arrow", ".parquet", ".tsv", ".xlsx", SIDECAR),
    *(suffix for suffixes in SUFFIXES.values() for suffix in suffixes),
)

MARK = "made by erprm"
MARKS = {
    Role.BAD_ROWS: re.compile(rb'^\{"place":"(?:[^"\\]|\\.)*","reason":"(?:[^"\\]|\\.)*","line":"'),
    Role.PLOT: re.compile(MARK.encode()),
    Role.TABLE: re.compile(MARK.encode()),
    Role.PAGE: re.compile(rb'<meta name="generator" content="erprm '),
}
MARK_BYTES = 1 << 16  # that are searched for a mark, at the beginning of a file and at its end

REMEDY = "move it away, or give {} another name"
MAX_NAMED = 3  # files that a message names

Key = str | tuple[int, int]  # a resolved name, or a device and inode


class NamedFile(NamedTuple):
    """A file or folder that a flag names. `flag` is what messages call it, such as -o or "the input"."""

    flag: str
    role: Role
    name: str

    @property
    def called(self) -> str:
        """What messages say: --errors bad.jsonl, the input, stdout."""
        if self.name == "-":
            return "stdin" if self.is_read else "stdout"
        return self.flag if " " in self.flag or self in STREAMS else f"{self.flag} {self.name}"

    @property
    def is_read(self) -> bool:
        return self.role in (Role.READ, Role.READ_BY_NAME)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder that is written."""
        return self.role in (Role.MODEL, Role.RUN)

    @property
    def is_stream(self) -> bool:
        """Whether it keeps nothing: a standard stream, a named pipe or a device."""
        return self.name == "-" or _kind(self.name) not in (None, stat.S_IFREG, stat.S_IFDIR)


# Text goes to both, whatever the flags say.
STREAMS = (
    NamedFile("stdout", Role.ROWS, "/dev/stdout"),
    NamedFile("stderr", Role.ROWS, "/dev/stderr"),
)


def check_files(files: Sequence[NamedFile], *, overwrite: bool = False) -> None:
    """Raise UserError unless a command may write what its flags name: see the top of this file.

    A folder is checked only with `overwrite`; without it, its command replaces nothing in it.
    """
    written = [file for file in files if not file.is_read]
    for file in written:
        _check_name(file)
        check_format(file)
    for one, other in combinations(written, 2):
        if one.name == other.name == "-" and Role.PLOT not in (one.role, other.role):
            raise UsageError(
                f"{one.flag} and {other.flag} cannot share stdout; give {one.flag} FILE or {other.flag} FILE"
            )
    named = [file for file in files if file.is_read or file.name != "-"]
    for one in (*written, *STREAMS):
        for other in named:
            if one is not other and _meet(one, other):
                raise UsageError(f"{one.called} is also {other.called}; give each a name of its own")
    for file in written:
        check_owner(file, overwrite=overwrite)


def check_format(file: NamedFile) -> None:
    """Raise UsageError if the name of a file that is written promises another format."""
    flag, role, name = file
    suffixes = SUFFIXES.get(role)
    if suffixes is not None and not name.lower().endswith(suffixes) and not file.is_stream:
        raise UsageError(f"{role}s are written as {', '.join(suffixes)}", where=f"{flag} {name}")
    if role is Role.BAD_ROWS and name.endswith((".gz", ".zst")):
        raise UsageError(f"{flag} {name}: bad rows are written uncompressed; give another name")
    if role in (Role.ROWS, Role.BAD_ROWS) and name.lower().endswith(OTHER_FORMATS):
        raise UsageError(f"{flag} {name}: rows are written as JSON Lines, plain, .gz or .zst")


def check_owner(file: NamedFile, *, overwrite: bool = False) -> None:
    """Raise UserError if erprm did not write what `file` names, and it would be lost; see `check_files`."""
    flag, role, name = file
    path = Path(os.path.realpath(name))
    remedy = REMEDY.format(flag)
    if file.is_folder:
        foreign = list(islice(foreign_files(path, role), MAX_NAMED)) if overwrite else []
        if foreign:
            found = ", ".join(str(entry.relative_to(path)) for entry in foreign)
            raise UserError(f"{name} holds what erprm did not write there ({found})", remedy=remedy)
    elif file.is_stream:
        return
    elif role is Role.ROWS or (role is Role.TABLE and name.lower().endswith(CSV)):
        beside = sidecar(path)
        filled = path.is_file() and path.stat().st_size > 0
        try:
            if filled or os.path.lexists(beside):
                read_sidecar(beside)
        except ValueError as error:
            if not filled:
                raise UserError(
                    f"{name}{SIDECAR} was not written by erprm ({error})", remedy=remedy
                ) from None
            raise UserError(
                f"{name} is not empty, and no readable {beside.name} says how it was made ({error})",
                remedy=remedy,
            ) from None
    elif path.is_file() and path.stat().st_size and not _is_marked(path, MARKS[role]):
        raise UserError(f"{name} is not empty and was not written by erprm", remedy=remedy)


def _check_name(file: NamedFile) -> None:
    """Raise UsageError for a name that no file can have, nor the files beside it, or that a folder has."""
    flag, _, name = file
    if not name:
        raise UsageError(f"{flag} is empty; it must name a file or folder")
    if name == "-" and file.role not in (Role.ROWS, Role.PLOT):
        raise UsageError(f"{flag} - cannot be stdout; name a {'folder' if file.is_folder else 'file'}")
    for path in (name, name + LONGEST_ADDED) if name != "-" else ():
        try:
            if not stat.S_ISDIR(os.stat(path).st_mode) or file.is_folder:
                continue
            fault: object = os.strerror(errno.EISDIR)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:  # ValueError: a null character in a file of flags
            fault = getattr(error, "strerror", error)
        raise UsageError(f"{flag} {name}: {fault}")


def _kind(name: str) -> int | None:
    """Return what a name stands for, as stat.S_IFMT does, or None if nothing."""
    try:
        return stat.S_IFMT(os.stat(name).st_mode)
    except (OSError, ValueError):  # not there, or not a name that a file can have
        return None


def foreign_files(folder: Path, role: Role) -> Iterator[Path]:
    """Yield what is in `folder` and was not made there by the commands that make a model, or a run."""
    if not folder.is_dir():
        if folder.exists():
            yield folder
    elif role is Role.MODEL:
        listed = {*_files_of_model(folder), EVENTS}
        yield from (path for path in sorted(folder.iterdir()) if path.name not in listed)
    else:
        yield from _foreign_in_run(folder, _command_of(sidecar(folder / "run")))


def _foreign_in_run(folder: Path, command: list[str] | None) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.is_symlink():
            ours = command is not None and command in (_command_of(path), _command_of(sidecar(path)))
            if not ours and path.name != LOCK and not WORK.fullmatch(path.name):
                yield path
        elif (path / CARD).exists():
            yield from foreign_files(path, Role.MODEL)
        elif not WORK.fullmatch(path.name):
            yield from _foreign_in_run(path, command)


# Marks


def sidecar(path: Path) -> Path:
    """Return the path of FILE.meta.json, the sidecar of the rows in `path`."""
    return path.with_name(path.name + SIDECAR)


def read_sidecar(path: Path) -> Row:
    """Return the content of a sidecar; ValueError says why `path` is not one."""
    meta = read_object(path)
    if not isinstance(meta.get("settings"), dict):
        raise ValueError("'settings' is not an object")
    runs = meta.get("runs")
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise ValueError("'runs' is not a list of objects")
    return meta


def _command_of(path: Path) -> list[str] | None:
    """Return the first two words of the command that wrote a sidecar; None if `path` is not one."""
    with suppress(ValueError):
        return str(read_sidecar(path)["runs"][0].get("command")).split()[:2]
    return None


def _is_marked(path: Path, mark: re.Pattern[bytes]) -> bool:
    with path.open("rb") as file:
        content = file.read(MARK_BYTES)
        file.seek(max(file.tell(), path.stat().st_size - MARK_BYTES))
        return mark.search(content + file.read(MARK_BYTES)) is not None


def _files_of_model(folder: Path) -> list[str]:
    try:
        return [str(name) for name in read_object(folder / CARD)["files"]]
    except (ValueError, LookupError, TypeError):
        return []


# Names


def _meet(one: NamedFile, other: NamedFile) -> bool:
    """Return whether two flags name one file, or one of them a file in the folder that the other writes."""
    if _keys(one) & _keys(other):
        return True
    return any(
        folder.is_folder and any(map(_is_within(folder.name), _keys(file)))
        for folder, file in permutations((one, other))
    )


def _keys(file: NamedFile) -> set[Key]:
    """Return what identifies a regular file or a folder under any of its names, those in another case too.

    A name that does not exist identifies only what is to be written. An output has other files beside it.
    """
    if file.role is Role.READ_BY_NAME and shipped.is_name(file.name):
        return set()
    name = file.name
    if name == "-":
        name = "/dev/stdin" if file.is_read else "/dev/stdout"
    try:
        found = os.stat(name)
    except (OSError, ValueError):
        if file.is_read:
            return set()
    else:
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            return set()
    keys: set[Key] = set()
    for suffix in ("", SIDECAR, JOURNAL) if file.role is Role.ROWS else ("",):
        path = os.path.realpath(name) + suffix
        keys.add(path.casefold())
        with suppress(OSError, ValueError):
            found = os.stat(path)
            keys.add((found.st_dev, found.st_ino))
    return keys


def _is_within(name: str) -> Callable[[Key], bool]:
    """Return a test whether a key is that of a file below the folder `name`."""
    folder = os.path.realpath(name)
    inodes = {
        (found.st_dev, found.st_ino)
        for top, _, files in os.walk(folder)
        for found in (os.stat(os.path.join(top, file), follow_symlinks=False) for file in files)
    }
    begin = os.path.join(folder, "").casefold()
    return lambda key: key.startswith(begin) if isinstance(key, str) else key in inodes
