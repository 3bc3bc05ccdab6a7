"""Compressed files, .gz and .zst, that can be continued: complete members one after another.

Both formats allow a file to be a sequence of members (zstandard calls them frames), each of which is
decompressed by itself. A killed run leaves complete members and perhaps part of one more, which is cut off.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import IO, Any

from erprm_cli.packages import missing_package

PIECE_BYTES = 1 << 20  # yielded at a time


@dataclass(frozen=True, slots=True)
class Codec:
    """A compressed format: how a member is made and decompressed, and the error of a damaged one."""

    name: str
    compress: Callable[[bytes], bytes]
    decompressor: Callable[[], Any]
    error: type[Exception]
    block_bytes: int  # read at a time, which bounds what comes out at a time


def codec(path: str) -> Codec | None:
    """Return the format that the suffix of `path` names, or None; UserError if its library is missing."""
    suffix = PurePath(path).suffix
    if suffix == ".gz":
        import gzip
        import zlib

        decompressor = partial(zlib.decompressobj, wbits=31)
        compress = partial(gzip.compress, compresslevel=6, mtime=0)
        return Codec("gzip", compress, decompressor, zlib.error, block_bytes=1 << 13)  # at most 8 MB come out
    if suffix == ".zst":
        try:
            import zstandard
        except ModuleNotFoundError:
            raise missing_package("zstandard", str(path)) from None
        zst = zstandard.ZstdDecompressor()
        # 4 bytes can hold a block of 128 kB, so at most 32 MB come out.
        return Codec(
            "zstandard", zstandard.compress, zst.decompressobj, zstandard.ZstdError, block_bytes=1 << 10
        )
    return None


def decompressed(file: IO[bytes], codec: Codec) -> Iterator[bytes]:
    """Yield the content of a compressed file; EOFError if it is cut short or of another format."""
    complete = read = 0
    for data, complete, read in _members(file, codec):  # noqa: B007
        for begin in range(0, len(data), PIECE_BYTES):
            yield data[begin : begin + PIECE_BYTES]
    if complete < read:
        raise EOFError("the file ends in the middle of its compressed data; it is an incomplete copy")


def complete_end(file: IO[bytes], codec: Codec) -> int:
    """Return the offset at which the last complete member of a compressed file ends.

    Raises EOFError if the file is of another format.
    """
    complete = 0
    for _, complete, _ in _members(file, codec):  # noqa: B007  # the last one counts
        pass
    return complete


def _members(file: IO[bytes], codec: Codec) -> Iterator[tuple[bytes, int, int]]:
    """Yield (data, bytes of the file in complete members, bytes read) as the file is read."""
    complete = read = 0
    decompressor = None
    while block := file.read(codec.block_bytes):
        read += len(block)
        while block:
            if decompressor is None and not (block := block.lstrip(b"\0")):  # padding, as on tapes
                yield b"", (complete := read), read
                break
            decompressor = decompressor or codec.decompressor()
            try:
                data = decompressor.decompress(block)
            except codec.error as error:
                raise EOFError(f"not {codec.name}, or damaged: {error}") from None
            block = b""
            if decompressor.eof:
                block, decompressor = decompressor.unused_data, None
                complete = read - len(block)
            yield data, complete, read
