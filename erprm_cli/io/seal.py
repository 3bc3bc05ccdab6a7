"""A seal on a complete folder, such as a checkpoint: the sizes and hashes of its files, to notice damage.

Files of a megabyte or more are known by their size only: a hash of all weights would cost more than writing
them.
"""

from pathlib import Path

from erprm_cli.io.content import KEPT_BYTES
from erprm_cli.io.files import file_hash, read_object, write_json
from erprm_cli.rows.row import Row

SEAL = "seal.json"


def seal(folder: Path) -> None:
    """Write the seal of a folder, when nothing in it will change any more. Raises OSError."""
    write_json(folder / SEAL, _files(folder))


def is_sealed(folder: Path) -> bool:
    """Return whether the folder has a seal; what earlier versions wrote has none."""
    return (folder / SEAL).exists()


def damage(folder: Path) -> str | None:
    """Return what is wrong with a sealed folder, or None if it is as it was."""
    try:
        expected, found = read_object(folder / SEAL), _files(folder)
    except ValueError as error:
        return f"{SEAL}: {error}"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    if not expected:
        return f"{SEAL} names no files"
    for name, known in expected.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != known:
            return f"{name} has changed since it was written"
    return None


def _files(folder: Path) -> Row:
    """Return [size in bytes, hash or null] of each file in a folder, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    return {
        str(path.relative_to(folder)): [size, file_hash(path) if size < KEPT_BYTES else None]
        for path in files
        for size in [path.stat().st_size]
    }
