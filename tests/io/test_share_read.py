"""Which share of an input has been read: what progress is computed from."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from erprm_cli.io.reading import open_lines, read_rows
from erprm_cli.terminal.reporter import Reporter

NUM_ROWS = 1_000
LINES = b"".join(b'{"id":"%d","text":"%s"}\n' % (number, b"x" * 200) for number in range(NUM_ROWS))  # 220 kB


class Watched(Reporter):
    """Keeps what it is given to watch."""

    def __init__(self) -> None:
        super().__init__("test", quiet=True)

    def share(self) -> float | None:
        return self._progress.fraction()


def write(path: Path) -> Path:
    """Write the rows in the format that the suffix of `path` names."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(LINES))
    elif path.suffix == ".zst":
        path.write_bytes(pytest.importorskip("zstandard").compress(LINES))
    elif path.suffix == ".parquet":
        datasets = pytest.importorskip("datasets")
        datasets.Dataset.from_list([json.loads(line) for line in LINES.splitlines()]).to_parquet(str(path))
    elif path.suffix == ".json":
        path.write_bytes(b"[" + b",".join(LINES.splitlines(keepends=True)) + b"]")
    elif path.suffix == ".csv":
        path.write_bytes(b"id,text\n" + b"".join(b"%d,%b\n" % (n, b"x" * 200) for n in range(NUM_ROWS)))
    else:
        path.write_bytes(LINES)
    return path


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("rows.jsonl", 0.01),
        ("rows.json", 0.01),
        ("rows.csv", 0.01),
        ("rows.gz", 0.6),
        ("rows.zst", 1.0),
        ("rows.parquet", 0.01),
    ],
)
def test_the_share_grows_with_the_rows(tmp_path: Path, name: str, close: float) -> None:
    """Plain files are exact, compressed ones as far as a block decompresses to many rows of equal text."""
    watched = Watched()
    shares = []
    for _ in read_rows(str(write(tmp_path / name)), dict, reporter=watched):
        share = watched.share()
        assert share is not None
        shares.append(share)
    assert len(shares) == NUM_ROWS
    assert shares == sorted(shares)
    assert shares[NUM_ROWS // 2 - 1] == pytest.approx(0.5, abs=close)
    assert watched.share() == 1.0


def test_a_small_file_is_read_at_once_but_not_done_at_once(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id":"a"}\n' * 4)
    watched = Watched()
    shares = [watched.share() for _ in read_rows(str(tmp_path / "in.jsonl"), dict, reporter=watched)]
    assert shares == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(("limit", "shares"), [(2, [0.5, 1.0]), (100, [0.25, 0.5, 0.75, 1.0])])
def test_a_limit_counts_if_it_comes_before_the_end(tmp_path: Path, limit: int, shares: list[float]) -> None:
    (tmp_path / "in.jsonl").write_text('{"id":"a"}\n' * 4)
    watched = Watched()
    rows = read_rows(str(tmp_path / "in.jsonl"), dict, limit=limit, reporter=watched)
    assert [watched.share() for _ in rows] == shares


def test_an_empty_file_has_no_share_to_speak_of(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").touch()
    with open_lines(str(tmp_path / "in.jsonl")) as lines:
        assert list(lines) == []
        assert lines.share_read() == 1.0


STDIN = """
from erprm_cli.io.reading import open_lines
with open_lines("-") as lines:
    for number, _ in enumerate(lines, start=1):
        if number == 500:
            print(lines.share_read())
"""


def test_stdin_has_a_size_if_it_is_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl")
    with path.open("rb") as file:
        done = subprocess.run([sys.executable, "-c", STDIN], stdin=file, capture_output=True, check=True)
    assert float(done.stdout) == pytest.approx(0.5, abs=0.01)


def test_a_pipe_has_no_size() -> None:
    done = subprocess.run([sys.executable, "-c", STDIN], input=LINES, capture_output=True, check=True)
    assert done.stdout == b"None\n"


def test_the_end_of_a_pipe_tells_the_total(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = subprocess.Popen(["sh", "-c", f"printf '{{}}\\n{{}}\\n' > {fifo}"])
    watched = Watched()
    assert [watched.share() for _ in read_rows(str(fifo), dict, reporter=watched)] == [None, None]
    assert watched.share() == 1.0
    assert writer.wait() == 0
