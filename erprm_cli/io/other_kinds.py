"""Files that do not hold rows, known by their first bytes: what they are, and what makes rows of them."""

from erprm_cli.errors import UserError

KINDS: dict[bytes, tuple[str, str]] = {
    b"\x1f\x8b": ("compressed by gzip", "a name that ends with .gz lets it be decompressed"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "a name that ends with .zst lets it be decompressed"),
    b"BZh": ("compressed by bzip2", "`bunzip2` decompresses it"),
    b"\xfd7zXZ\x00": ("compressed by xz", "`unxz` decompresses it"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "extract it, or save the sheet as CSV"),
    b"PAR1": ("a Parquet file", "a name that ends with .parquet lets it be read"),
    b"ARROW1": ("an Arrow file", "save it as Parquet or JSON Lines"),
    b"\x93NUMPY": ("a NumPy array", "save it as JSON Lines"),
    b"SQLite format 3": ("an SQLite database", "`sqlite3 -json FILE 'select ...'` writes JSON"),
    b"\xff\xfe": ("text in UTF-16", "`iconv -f utf-16 -t utf-8` converts it"),
    b"\xfe\xff": ("text in UTF-16", "`iconv -f utf-16 -t utf-8` converts it"),
    b"version https://git-lfs": ("a pointer of Git LFS", "`git lfs pull` gets the file itself"),
    b"<!DOCTYPE": ("a web page", "download the file itself"),
    b"<!doctype": ("a web page", "download the file itself"),
    b"<html": ("a web page", "download the file itself"),
}


def check_kind(begin: bytes, source: str) -> None:
    """Raise UserError if a file begins like one of another kind, which holds no rows."""
    for mark, (kind, remedy) in KINDS.items():
        if begin.startswith(mark):
            raise UserError(f"not rows but {kind}", where=source, remedy=remedy)
