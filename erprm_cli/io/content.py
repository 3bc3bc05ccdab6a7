"""What a name in the settings stands for, such as the files of a model folder, as a hash.

A file of a megabyte or more is read once: its hash is kept in the user's cache directory, under the file's
path, inode, size and times. The time of the last change of status is one of them, because no program can set
it. A file that changed within the last seconds is not kept: it may change again without changing its times.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from erprm_cli.errors import UserError
from erprm_cli.io.drafts import replacing
from erprm_cli.io.files import file_hash, read_text

KEPT_BYTES = 1 << 20  # smaller files are hashed faster than their hash is found
SAMPLES, BLOCK_BYTES = 64, 1 << 16
SETTLED_S = 2.0  # the coarsest clock of a file system (FAT)


@dataclass(frozen=True, slots=True)
class Content:
    """What a name in the settings stands for. The settings are written with `hash()` in its place.

    `paths` are the files and folders that it is read from; none if they came with erprm.
    """

    hash: Callable[[], str]
    paths: tuple[Path, ...] = ()


def cached_hash(path: Path) -> str:
    """Return `file_hash(path)`; of a large file that has not changed, from the cache. Raises OSError."""
    status = path.stat()
    if status.st_size < KEPT_BYTES:
        return file_hash(path)
    from erprm_cli.hashing import content_hash  # here, because `--help` loads this module

    times = status.st_mtime_ns, status.st_ctime_ns
    key = content_hash(repr((str(path.absolute()), status.st_dev, status.st_ino, status.st_size, times)))
    kept = cache_folder() / "hashes" / key
    with suppress(OSError, UnicodeDecodeError):
        if len(known := read_text(kept)) == 64:
            return known
    found = file_hash(path)
    if time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_S:
        with suppress(OSError, UserError):  # a home that cannot be written: it is hashed again next time
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replacing(kept) as file:
                file.write(found.encode())
    return found


def sampled_hash(path: Path) -> str:
    """Return a hash of a file's size and of SAMPLES blocks of it: cheap, for a notice. Raises OSError.

    A file of at most SAMPLES blocks is read whole; of a larger one, a change between the blocks that keeps
    the size is not seen.
    """
    import hashlib  # here, because `--help` loads this module

    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        last = max(0, size - BLOCK_BYTES)
        for begin in range(0, size, BLOCK_BYTES) if size <= SAMPLES * BLOCK_BYTES else _spread(last):
            file.seek(begin)
            digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()


def _spread(last: int) -> list[int]:
    """Return SAMPLES offsets from 0 to `last`."""
    return [last * index // (SAMPLES - 1) for index in range(SAMPLES)]


def cache_folder() -> Path:
    """Return the folder of erprm in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "erprm"
