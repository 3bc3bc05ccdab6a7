"""Files packed by suffix, .gz and .zst: whole members one after another, so that a file can be continued.

Both formats let a file be a row of members (zstandard: frames), each of which unpacks by itself. A killed
run leaves whole members and perhaps the beginning of one, which is cut.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import IO, Any

from erprm_cli.errors import UsageError

BLOCK_BYTES = 1 << 13  # read at a time; what little input can unpack to stays small


@dataclass(frozen=True, slots=True)
class Codec:
    """A format: how a member is made and undone, and what the undoing raises."""

    name: str
    pack: Callable[[bytes], bytes]
    decoder: Callable[[], Any]
    error: type[Exception]


def codec(path: str) -> Codec | None:
    """Return the format that the suffix of `path` names, or None; UsageError if its library is missing."""
    suffix = PurePath(path).suffix
    if suffix == ".gz":
        import gzip
        import zlib

        decoder = partial(zlib.decompressobj, wbits=31)
        return Codec("gzip", partial(gzip.compress, compresslevel=6, mtime=0), decoder, zlib.error)
    if suffix == ".zst":
        try:
            import zstandard
        except ModuleNotFoundError:
            raise UsageError(f"{path}: .zst needs zstandard: pip install 'erprm[zst]'") from None
        decompressor = zstandard.ZstdDecompressor()
        return Codec("zstandard", zstandard.compress, decompressor.decompressobj, zstandard.ZstdError)
    return None


def unpacked(file: IO[bytes], form: Codec) -> Iterator[bytes]:
    """Yield the content of a packed file; EOFError if it is torn or of another format."""
    whole = read = 0
    for data, whole, read in _members(file, form):  # noqa: B007
        if data:
            yield data
    if whole < read:
        raise EOFError("the file ends within its packed data; a copy of it was cut short")


def whole_end(file: IO[bytes], form: Codec) -> int:
    """Return where the last whole member of a packed file ends; EOFError if it is of another format."""
    whole = 0
    for _, whole, _ in _members(file, form):  # noqa: B007  # the last one counts
        pass
    return whole


def _members(file: IO[bytes], form: Codec) -> Iterator[tuple[bytes, int, int]]:
    """Yield (data, bytes of the file in whole members, bytes read) as the file is read."""
    whole = read = 0
    decoder = None
    while block := file.read(BLOCK_BYTES):
        read += len(block)
        while block:
            if decoder is None and not (block := block.lstrip(b"\0")):  # padding, as tapes have it
                yield b"", (whole := read), read
                break
            decoder = decoder or form.decoder()
            try:
                data = decoder.decompress(block)
            except form.error as error:
                raise EOFError(f"not {form.name}, or damaged: {error}") from None
            block = b""
            if decoder.eof:
                block, decoder = decoder.unused_data, None
                whole = read - len(block)
            yield data, whole, read
