import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.compression import codec
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import open_atomic_output, open_output
from erprm_cli.rows.row import Row, to_line

zstandard = pytest.importorskip("zstandard")

SUFFIXES = (".gz", ".zst")
ROWS = [{"n": number, "text": f"row {number}"} for number in range(6)]


def write(path: Path, rows: list[Row], opener: Any = open_output) -> None:
    with opener(str(path), {"seed": 0}) as output:
        for row in rows:
            output.write(row)


def read(path: Path) -> list[Row]:
    return list(read_rows(str(path), dict))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("opener", [open_output, open_atomic_output])
def test_rows_come_back(tmp_path: Path, suffix: str, opener: Any) -> None:
    path = tmp_path / f"out.jsonl{suffix}"
    write(path, ROWS, opener)
    assert read(path) == ROWS
    tool = gzip.decompress if suffix == ".gz" else zstandard.decompress
    assert tool(path.read_bytes()) == b"".join(map(to_line, ROWS))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_packed_file_is_continued_wherever_it_was_cut(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erprm_cli.io.output.MEMBER_BYTES", 1)  # a member for each row
    path = tmp_path / f"out.jsonl{suffix}"
    write(path, ROWS)
    whole = path.read_bytes()
    kept: list[int] = []
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with open_output(str(path), {"seed": 0}) as output:
            there = [row["n"] for row in output.existing(dict)]
            kept.append(len(there))
            assert there == list(range(len(there)))
            for row in ROWS[len(there) :]:
                output.write(row)
        assert read(path) == ROWS
    assert kept == sorted(kept) and set(kept) == set(range(7))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_that_wait_are_kept_when_a_command_ends_early(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.jsonl{suffix}"
    with pytest.raises(KeyboardInterrupt), open_output(str(path), {"seed": 0}) as output:
        output.write(ROWS[0])
        raise KeyboardInterrupt
    assert read(path) == ROWS[:1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_torn_input_is_an_error_and_not_an_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in.jsonl{suffix}"
    form = codec(str(path))
    assert form
    whole = form.compress(b"".join(map(to_line, ROWS)))
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="in.jsonl.*after line .*ends in the middle"):
            read(path)
    path.write_bytes(b"plain text")
    with pytest.raises(UserError, match="or damaged"):
        read(path)


def test_a_damaged_output_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl.gz"
    write(path, ROWS)
    path.write_bytes(b"plain text")
    with pytest.raises(UserError, match="damaged.*--overwrite"):
        write(path, ROWS)


def test_bad_rows_are_not_compressed() -> None:
    with pytest.raises(UsageError, match="uncompressed"):
        BadRows("bad.jsonl.gz")


def test_padding_behind_the_last_member_is_no_data(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"n": 1}).encode()) + b"\0" * 20_000)
    assert read(path) == [{"n": 1}]
