"""Lines too long for memory: a bad row each, and the lines after them are read."""

import gzip
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest

from erprm_cli.errors import UsageError, UserError
from erprm_cli.io import lines
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.compression import codec, decompressed
from erprm_cli.io.lines import BadLine, max_line_bytes, split_lines
from erprm_cli.io.reading import Lines, read_rows

zstandard = pytest.importorskip("zstandard")


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ERPRM_MAX_LINE_MB", "1")
    max_line_bytes.cache_clear()
    yield
    max_line_bytes.cache_clear()


@pytest.mark.parametrize("size", [1 << 10, 1 << 16, 1 << 20])
def test_a_line_that_is_too_long_is_a_bad_row(tmp_path: Path, size: int) -> None:
    text = b'{"n":1}\n{"n":"' + b"x" * 2_000_000 + b'"}\n{"n":3}\n' + b"y" * 1_000_001
    reads = [text[begin : begin + size] for begin in range(0, len(text), size)]
    bad = BadRows(str(tmp_path / "bad.jsonl"))
    found = list(Lines("in", reads, bad=bad))
    assert found == [b'{"n":1}', b'{"n":3}']
    told = list(read_rows(str(tmp_path / "bad.jsonl"), dict))
    assert [row["place"] for row in told] == ["in:2", "in:4"]
    assert all("more than 1 MB; ERPRM_MAX_LINE_MB=N sets the limit" in row["reason"] for row in told)
    assert all(len(row["line"]) == lines.KEPT_BYTES for row in told)


def test_a_line_of_the_longest_length_is_read() -> None:
    line = b"x" * 1_000_000
    assert list(split_lines([line, b"\n", line], "in")) == [[line], [line]]
    assert isinstance(next(split_lines([line, b"x"], "in"))[0], BadLine)


def test_an_endless_line_is_an_error() -> None:
    with pytest.raises(UserError, match="zeros:1: the line has more than 1 MB"):
        list(Lines("zeros", repeat(b"\0" * 65_536)))


def test_a_bad_line_that_goes_on_and_on_is_an_error() -> None:
    reads = (b"\0" * 65_536 for _ in range(20 * max_line_bytes() // 65_536))
    with pytest.raises(
        UserError, match=r"in: no end of the line within 0\.016 GB; ERPRM_MAX_LINE_MB=N allows"
    ):
        list(split_lines(reads, "in"))
    assert next(reads), "all of it was read"


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "9" * 30])
def test_the_limit_is_a_number_of_megabytes(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ERPRM_MAX_LINE_MB", value)
    max_line_bytes.cache_clear()
    with pytest.raises(UsageError, match="ERPRM_MAX_LINE_MB="):
        max_line_bytes()


@pytest.mark.parametrize("content", [b"\n", b"0", b" "])
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_bomb_is_unpacked_in_pieces(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bomb.jsonl{suffix}"
    pack = gzip.compress if suffix == ".gz" else zstandard.compress
    path.write_bytes(pack(content * 50_000_000))
    form = codec(str(path))
    assert form is not None
    with path.open("rb") as file:
        pieces = list(map(len, decompressed(file, form)))
    assert sum(pieces) == 50_000_000 and max(pieces) <= 1 << 20
    begin = time.process_time()
    if content.isspace():
        assert list(read_rows(str(path), dict)) == []
    else:
        with pytest.raises(UserError, match="bomb.jsonl.*:1: the line has more than 1 MB"):
            list(read_rows(str(path), dict))
    assert time.process_time() - begin < 10
