"""What is read: lines however they end or arrive, and which lines are errors."""

import gzip
import io
import os
import pty
import sys
from pathlib import Path

import pytest

from erprm_cli.errors import RowError, UserError
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.reading import Lines, read_rows
from erprm_cli.rows.row import Row, parse_line
from tests.io.helpers import as_it_is, numbers


@pytest.mark.parametrize(
    "text",
    [b'{"n":1}\n{"n":2}\n', b'{"n":1}\n{"n":2}', b'{"n":1}\r\n{"n":2}\r\n', b'\n{"n":1}\n \n\n{"n":2}\n\n'],
    ids=["plain", "no final newline", "CRLF", "blank lines"],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
def test_rows_are_read_however_lines_end(tmp_path: Path, text: bytes, mark: bytes) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(mark + text)
    assert numbers(path) == [1, 2]
    packed = tmp_path / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(mark + text))
    assert numbers(packed) == [1, 2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"n":1', "not JSON"),
        (b'{"n":1,}', "not JSON"),
        (b'{"n":NaN}', "not JSON"),
        (b'{"n":-Infinity}', "not JSON"),
        (b'{"n":1e400}', "not JSON"),
        (b'{"n":"\\ud800"}', "not JSON"),
        (b'{"n":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (b'{"n":"\xff"}', "not UTF-8: byte 0xff at 7"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"1", "not a JSON object"),
    ],
    ids=[
        "torn",
        "comma",
        "nan",
        "infinity",
        "1e400",
        "surrogate",
        "nested",
        "utf8",
        "list",
        "null",
        "number",
    ],
)
def test_a_bad_line_names_its_place_and_goes_to_errors_if_there_are(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path, errors = tmp_path / "in.jsonl", tmp_path / "errors.jsonl"
    path.write_bytes(b'{"n":1}\n\n' + line + b'\n{"n":2}\n')
    with pytest.raises(UserError, match=f"in.jsonl:3: {reason}.*--errors"):
        numbers(path)
    with pytest.raises(RowError, match=reason):
        parse_line(line)
    with pytest.raises(UserError, match="1 bad row was written to"), bad_rows(str(errors)) as bad:
        assert [row["n"] for row in read_rows(str(path), as_it_is, bad)] == [1, 2]
    (told,) = read_rows(str(errors), as_it_is)
    assert told["place"] == f"{path}:3"
    assert told["reason"].startswith(reason)
    if b"\xff" not in line:
        assert told["line"].encode() == line


def test_a_row_that_is_refused_goes_the_same_way(tmp_path: Path) -> None:
    def even(row: Row) -> int:
        if row["n"] % 2:
            raise RowError("'n' is odd")
        return int(row["n"])

    path, errors = tmp_path / "in.jsonl", tmp_path / "errors.jsonl"
    path.write_text("".join(f'{{"n":{n}}}\n' for n in range(6)))
    with pytest.raises(UserError, match="in.jsonl:2: 'n' is odd"):
        list(read_rows(str(path), even))
    with pytest.raises(UserError, match="3 bad rows were written to"), bad_rows(str(errors)) as bad:
        assert list(read_rows(str(path), even, bad)) == [0, 2, 4]
    with pytest.raises(UserError, match="more than 1 bad rows.*in.jsonl:4"), bad_rows(str(errors), 1) as bad:
        list(read_rows(str(path), even, bad))


def test_the_limit_counts_rows_read(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"n":1}\n\n{"n":2}\nbad\n')
    assert [row["n"] for row in read_rows(str(path), as_it_is, limit=2)] == [1, 2]
    assert list(read_rows(str(path), as_it_is, limit=0)) == []


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere.jsonl: No such file"):
        numbers(tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match="Is a directory"):
        numbers(tmp_path)


def test_an_incomplete_or_false_gz_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl.gz"
    whole = gzip.compress(b'{"n":1}\n' * 1000)
    path.write_bytes(whole[:-9])
    with pytest.raises(UserError, match="in.jsonl.gz, after line .*ends in the middle"):
        numbers(path)
    path.write_bytes(b'{"n":1}\n')
    with pytest.raises(UserError, match="in.jsonl.gz, after line 0: not gzip"):
        numbers(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gzip.compress(b'{"n":1}\n'), "not rows but compressed by gzip; a name that ends with .gz"),
        (b"\n \x28\xb5\x2f\xfd\x04\x00", "not rows but compressed by zstd"),
        (b"PK\x03\x04\x14\x00", "not rows but a zip archive or a spreadsheet; extract it"),
        (b"PAR1\x15\x04\n", "not rows but a Parquet file; a name that ends with .parquet"),
        ('{"n":1}\n'.encode("utf-16"), "not rows but text in UTF-16; `iconv -f utf-16 -t utf-8` converts it"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "not rows but a pointer of Git LFS; `git lfs pull`",
        ),
        (b"<!DOCTYPE html>\n<title>404</title>", "not rows but a web page; download the file itself"),
    ],
)
def test_a_file_of_another_kind_is_named_as_a_whole(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    with bad_rows(str(tmp_path / "errors.jsonl")) as bad, pytest.raises(UserError) as caught:
        list(read_rows(str(path), as_it_is, bad))
    assert str(caught.value).startswith(f"{path}: {told}")


def test_a_person_at_a_terminal_is_told_that_rows_are_awaited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b'{"n":1}\n\x04')
    with open(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert numbers(Path("-")) == [1]
    os.close(ours)
    assert capsys.readouterr().err == "erprm: reading rows from the terminal; Ctrl-D ends them\n"


def test_a_row_of_50_mb_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"n":1,"text":"' + "x" * 50_000_000 + '"}\n{"n":2}\n{"n":' + "x" * 50_000_000 + "}\n")
    with pytest.raises(UserError, match="in.jsonl:3: not JSON") as told:
        numbers(path)
    assert len(str(told.value)) < 1_000


class Trickle(io.RawIOBase):
    """A file whose every read gives the next of some pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def read1(self, _size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def test_lines_are_whole_wherever_reads_end() -> None:
    text = b'\xef\xbb\xbf{"a":1}\n\nlonger than a read\nlast'
    for size in range(1, len(text)):
        pieces = [text[begin : begin + size] for begin in range(0, len(text), size)]
        lines = Lines("in", Trickle(pieces))
        given = [(line, lines.place, lines.line) for line in lines]
        assert [line for line, _, _ in given] == [b'{"a":1}', b"", b"longer than a read", b"last"]
        assert [place for _, place, _ in given] == ["in:1", "in:2", "in:3", "in:4"]
        assert all(line == told for line, _, told in given)


def test_lines_that_have_arrived_are_yielded_before_the_next_read() -> None:
    seen: list[str] = []
    lines = Lines("in", Trickle([b"1\n2\n", b"3\n"]), lambda: seen.append("wait"))
    for line in lines:
        seen.append(line.decode())
    assert seen == ["wait", "1", "2", "wait", "3", "wait"]
