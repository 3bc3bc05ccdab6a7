import errno
import fcntl
import gzip
import io
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.io.bad_rows import BadRows, bad_rows
from erprm_cli.io.files import replacing
from erprm_cli.io.reading import Lines, read_rows
from erprm_cli.io.run_directory import check_run_directory, run_directory
from erprm_cli.io.writing import open_atomic_output, open_output
from erprm_cli.rows.row import Row, loads, parse_line

SETTINGS = {"model": "tiny", "seed": 0}
OPENERS = [open_output, open_atomic_output]


def as_it_is(row: Row) -> Row:
    return row


def write(path: Path, rows: list[Row], opener: Any = open_output, **options: Any) -> None:
    with opener(str(path), SETTINGS, **options) as output:
        for row in rows:
            output.write(row)


def numbers(path: Path) -> list[int]:
    return [row["n"] for row in read_rows(str(path), as_it_is)]


# Reading


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
    with pytest.raises(UserError, match="1 bad row went to"), bad_rows(str(errors)) as bad:
        assert [row["n"] for row in read_rows(str(path), as_it_is, bad)] == [1, 2]
    (told,) = read_rows(str(errors), as_it_is)
    assert told["place"] == f"{path}:3"
    assert told["reason"].startswith(reason)
    if b"\xff" not in line:
        assert told["line"].encode() == line


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"n":1,"n":2}', "the field 'n' is there more than once"),
        ('{"n" :1,"n":2}', "the field 'n' is there more than once"),
        ('{"n":{"a":[{"x":1,"x":1}]}}', "the field 'x' is there more than once"),
        ('{"n":18446744073709551616}', "the integer 18446744073709551616 has more than 64 bits"),
        ('{"n":[-9223372036854775809]}', "the integer -9223372036854775809 has more than 64 bits"),
        ('{"n":' + "9" * 300 + "}", "the integer 999999999999999999999... has more than 64 bits"),
        ('{"n":' + "9" * 5_000 + "}", "not JSON: number is infinity"),
    ],
    ids=range(7),
)
def test_what_json_readers_would_change_in_silence_is_refused(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError, match=f"in.jsonl:1: {reason}"):
        numbers(path)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
)
def test_no_good_row_is_taken_for_an_ambiguous_one(value: Any, separators: tuple[str, str]) -> None:
    line = json.dumps({"value": value}, ensure_ascii=False, separators=separators)
    with suppress(UnicodeEncodeError):  # lone surrogates
        line.encode()
        assert loads(line) == orjson.loads(line)


def test_a_row_that_is_refused_goes_the_same_way(tmp_path: Path) -> None:
    def even(row: Row) -> int:
        if row["n"] % 2:
            raise RowError("'n' is odd")
        return int(row["n"])

    path, errors = tmp_path / "in.jsonl", tmp_path / "errors.jsonl"
    path.write_text("".join(f'{{"n":{n}}}\n' for n in range(6)))
    with pytest.raises(UserError, match="in.jsonl:2: 'n' is odd"):
        list(read_rows(str(path), even))
    with pytest.raises(UserError, match="3 bad rows went to"), bad_rows(str(errors)) as bad:
        assert list(read_rows(str(path), even, bad)) == [0, 2, 4]
    with pytest.raises(UserError, match="more than 1 bad rows.*in.jsonl:4"), bad_rows(str(errors), 1) as bad:
        list(read_rows(str(path), even, bad))


def test_errors_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    path, errors = tmp_path / "in.jsonl", tmp_path / "errors.jsonl"
    path.write_text('{"n":1}\n')
    errors.write_text('{"place":"old"}\n')
    with bad_rows(str(errors)) as bad:
        list(read_rows(str(path), as_it_is, bad))
    assert errors.read_text() == ""


def test_max_errors_alone_means_nothing() -> None:
    with pytest.raises(UsageError, match="--errors"), bad_rows(None, 3):
        pass


def test_the_input_does_not_take_the_errors(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"n":1}\nbad\n')
    with pytest.raises(UsageError, match="is the input too"), bad_rows(str(path)) as bad:
        list(read_rows(str(path), as_it_is, bad))
    assert path.read_text() == '{"n":1}\nbad\n'


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


def test_a_torn_or_false_gz_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl.gz"
    whole = gzip.compress(b'{"n":1}\n' * 1000)
    path.write_bytes(whole[:-9])
    with pytest.raises(UserError, match="in.jsonl.gz, after line .*ends within"):
        numbers(path)
    path.write_bytes(b'{"n":1}\n')
    with pytest.raises(UserError, match="in.jsonl.gz, after line 0: not gzip"):
        numbers(path)


class Trickle(io.RawIOBase):
    """A file whose every read gives the next of some pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def read1(self, _size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def test_lines_are_whole_wherever_the_reads_cut_them() -> None:
    text = b'\xef\xbb\xbf{"a":1}\n\nlonger than a read\nlast'
    for size in range(1, len(text)):
        pieces = [text[begin : begin + size] for begin in range(0, len(text), size)]
        lines = Lines("in", Trickle(pieces))
        given = [(line, lines.place, lines.line) for line in lines]
        assert [line for line, _, _ in given] == [b'{"a":1}', b"", b"longer than a read", b"last"]
        assert [place for _, place, _ in given] == ["in:1", "in:2", "in:3", "in:4"]
        assert all(line == told for line, _, told in given)


def test_what_has_arrived_is_given_out_before_more_is_waited_for() -> None:
    seen: list[str] = []
    lines = Lines("in", Trickle([b"1\n2\n", b"3\n"]), lambda: seen.append("wait"))
    for line in lines:
        seen.append(line.decode())
    assert seen == ["wait", "1", "2", "wait", "3", "wait"]


# Writing


@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_is_made_with_its_settings_beside_it(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"n": 1}, {"n": 2}], opener)
    assert path.read_text() == '{"n":1}\n{"n":2}\n'
    assert json.loads((tmp_path / "out.jsonl.meta.json").read_text())["settings"] == SETTINGS
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "out.jsonl.meta.json"]


def test_the_same_command_continues_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"n": 1}, {"n": 2}])
    with path.open("ab") as file:
        file.write(b'{"n":3,"text":"' + b"x" * 200_000)  # longer than a block that is searched
    with open_output(str(path), SETTINGS) as output:
        assert [row["n"] for row in output.existing()] == [1, 2]
        output.write({"n": 3})
    assert numbers(path) == [1, 2, 3]


def test_a_file_of_one_torn_line_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [])
    path.write_bytes(b'{"n":')
    with open_output(str(path), SETTINGS) as output:
        assert list(output.existing()) == []


def test_a_broken_row_within_an_earlier_output_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"n": 1}])
    path.write_bytes(b'{"n":\n{"n":2}\n')
    with pytest.raises(UserError, match="out.jsonl:1: not JSON.*--overwrite"):
        with open_output(str(path), SETTINGS) as output:
            list(output.existing())


def test_a_whole_output_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"n": 1}], open_atomic_output)
    write(path, [{"n": 2}], open_atomic_output)
    assert numbers(path) == [2]


def test_a_whole_output_appears_only_when_all_went_well(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt), open_atomic_output(str(path), SETTINGS) as output:
        output.write({"n": 1})
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    write(path, [{"n": 1}], open_atomic_output)
    with pytest.raises(RowError), open_atomic_output(str(path), SETTINGS) as output:
        output.write({"n": 2})
        raise RowError("bad")
    assert numbers(path) == [1]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    write(link, [{"n": 1}], open_atomic_output)
    assert link.is_symlink() and numbers(path) == [1]


@pytest.mark.parametrize("opener", OPENERS)
def test_other_settings_are_refused_by_name(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"n": 1}], opener)
    with pytest.raises(UserError, match="made with seed 0, not 1; --overwrite"):
        with opener(str(path), SETTINGS | {"seed": 1}):
            pass
    with pytest.raises(UserError, match="made with top_p None, not 0.5"):
        with opener(str(path), SETTINGS | {"top_p": 0.5}):
            pass
    assert numbers(path) == [1]
    with opener(str(path), SETTINGS | {"seed": 1}, overwrite=True) as output:
        output.write({"n": 2})
    assert numbers(path) == [2]
    with pytest.raises(UserError, match="made with seed 1, not 0"):
        write(path, [], opener)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("meta", [None, "", "[]", '{"settings": null}', '{"settings": 3}'])
def test_a_file_of_unknown_making_is_refused(tmp_path: Path, opener: Any, meta: str | None) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"mine":1}\n')
    if meta is not None:
        (tmp_path / "out.jsonl.meta.json").write_text(meta)
    with pytest.raises(UserError, match="no readable out.jsonl.meta.json.*--overwrite"):
        write(path, [], opener)
    assert path.read_text() == '{"mine":1}\n'


@pytest.mark.parametrize("opener", OPENERS)
def test_two_runs_never_write_one_file(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "out.jsonl"
    with opener(str(path), SETTINGS) as output:
        with pytest.raises(UserError, match="is writing to it"), opener(str(path), SETTINGS):
            pass
        output.write({"n": 1})
    assert numbers(path) == [1]
    write(path, [{"n": 2}], opener)  # the lock is gone with the run


def test_a_lock_of_another_process_holds(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is writing to it"):
            write(path, [])


@pytest.mark.parametrize("opener", OPENERS)
def test_errors_and_output_are_two_files(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match="another flag of this one"):
        with bad_rows(str(path)), opener(str(path), SETTINGS):
            pass


def test_a_whole_output_waits_for_no_run_that_appends(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with open_output(str(path), SETTINGS) as output:
        output.write({"n": 1})
        with pytest.raises(UserError, match="is writing to it"):
            write(path, [{"n": 2}], open_atomic_output)
    assert numbers(path) == [1]


@pytest.mark.parametrize("opener", OPENERS)
def test_the_input_is_not_written(tmp_path: Path, opener: Any) -> None:
    path, link = tmp_path / "in.jsonl", tmp_path / "link.jsonl"
    path.write_text('{"n":1}\n')
    link.symlink_to(path)
    for target in (path, link):
        with pytest.raises(UsageError, match="is the input too"):
            write(target, [], opener, source=str(path), overwrite=True)
    assert path.read_text() == '{"n":1}\n'


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_cannot_be_written_is_named(tmp_path: Path, opener: Any, overwrite: bool) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        write(tmp_path, [], opener, overwrite=overwrite)
    with pytest.raises(UserError, match="nowhere/out.jsonl: No such file"):
        write(tmp_path / "nowhere" / "out.jsonl", [], opener, overwrite=overwrite)
    with pytest.raises(UsageError, match="as JSON Lines"):
        write(tmp_path / "out.parquet", [], opener, overwrite=overwrite)
    with pytest.raises(UserError, match="No space left"):
        write(Path("/dev/full"), [{"n": 1}], opener, overwrite=overwrite)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("opener", OPENERS)
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, opener: Any) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        write(tmp_path / "out.jsonl", [], opener)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_device_is_written_and_not_replaced(opener: Any) -> None:
    write(Path("/dev/null"), [{"n": 1}], opener)
    assert not Path("/dev/null").is_file()
    assert not Path("/dev/null.meta.json").exists()


def test_errors_on_a_full_disk_are_an_error() -> None:
    bad = BadRows("/dev/full")
    with pytest.raises(UserError, match="/dev/full: No space left"):
        bad.add("in:1", "bad", b"line")
    bad.abandon()


# Folders


def test_a_run_directory_is_continued_by_the_same_settings_only(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    check_run_directory(run, SETTINGS)
    (run / "iteration-1").mkdir()
    check_run_directory(run, SETTINGS)
    with pytest.raises(UserError, match="one was made with seed 0, not 1"):
        check_run_directory(run, SETTINGS | {"seed": 1})
    check_run_directory(run, SETTINGS | {"seed": 1}, overwrite=True)
    assert os.listdir(run) == ["run.meta.json"]


def test_two_runs_never_work_in_one_directory(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with run_directory(run, SETTINGS):
        (run / "iteration-1" / ".policy.123.tmp").mkdir(parents=True)
        for overwrite in (False, True):
            with pytest.raises(UserError, match="run: another run"):
                with run_directory(run, SETTINGS, overwrite=overwrite):
                    pass
        assert (run / "iteration-1" / ".policy.123.tmp").exists()
    with run_directory(run, SETTINGS):
        assert os.listdir(run / "iteration-1") == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_no_run_made_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        check_run_directory(tmp_path, SETTINGS, overwrite=overwrite)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as draft:
        draft.write_text("one")
    with pytest.raises(ZeroDivisionError), replacing(path) as draft:
        draft.write_text("two")
        raise ZeroDivisionError
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["file"]


# The shell


def test_rows_on_a_full_disk_are_one_line_and_status_1(shell: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"rollouts":[[1.0]]}\n')
    done = shell("label", path, "-o", "/dev/full", "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "erprm: /dev/full: No space left on device\n"


# The sidecar


def test_each_run_is_told_with_what_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for engine in ("one", "two"):
        with open_output(str(path), SETTINGS) as output:
            output.made_with({"engine": engine, "commit": "abc"})
            output.write({"n": 1})
    with open_output(str(path), SETTINGS):  # nothing was missing
        pass
    runs = json.loads((tmp_path / "out.jsonl.meta.json").read_text())["runs"]
    assert [run["engine"] for run in runs] == ["one", "two"]
    assert all({"command", "started", "erprm"} <= run.keys() for run in runs)
    with pytest.raises(UserError, match="made with commit abc of the model, not def; --overwrite"):
        with open_output(str(path), SETTINGS) as output:
            output.made_with({"commit": "def"})


def test_notes_are_no_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    with bad_rows(str(path)) as bad:
        bad.note("answers", "no verdict", "pair")
    assert [row["reason"] for row in read_rows(str(path), as_it_is)] == ["no verdict"]
    BadRows().note("answers", "no verdict", "pair")  # nowhere to tell, and no error


def test_a_row_of_50_mb_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"n":1,"text":"' + "x" * 50_000_000 + '"}\n{"n":2}\n{"n":' + "x" * 50_000_000 + "}\n")
    with pytest.raises(UserError, match="in.jsonl:3: not JSON") as told:
        numbers(path)
    assert len(str(told.value)) < 1_000


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_are_safe_in_time_though_nothing_follows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erprm_cli.io.output.SYNC_INTERVAL_S", 0.05)
    synced = Event()
    monkeypatch.setattr(os, "fsync", lambda _: synced.set())
    path = tmp_path / name
    with open_output(str(path), {}) as out:
        out.write({"id": "a"})
        assert synced.wait(10)  # the engine says nothing more
        assert list(read_rows(str(path), dict)) == [{"id": "a"}]
        synced.clear()
        out.write({"id": "b"})
        assert synced.wait(10)
    assert [row["id"] for row in read_rows(str(path), dict)] == ["a", "b"]


def test_what_the_disk_refuses_in_between_is_told_by_the_next_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        tried.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    tried = Event()
    monkeypatch.setattr("erprm_cli.io.output.SYNC_INTERVAL_S", 0.05)
    monkeypatch.setattr(os, "fsync", fsync)
    with (
        pytest.raises(UserError, match=r"rows.jsonl: No space left on device; the rows so far are kept"),
        open_output(str(tmp_path / "rows.jsonl"), {}) as out,
    ):
        out.write({"id": "a"})
        assert tried.wait(10)
        for _ in range(1000):
            time.sleep(0.01)
            out.write({"id": "b"})
