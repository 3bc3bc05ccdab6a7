"""The same rows from lines and from an array, and what is said of broken ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.errors import RowError, UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows

ROWS = [{"id": "a", "x": "\n[1]"}, {"id": "b"}, {"id": "c"}]


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_holds_the_rows_that_lines_hold(tmp_path: Path, indent: int | None) -> None:
    lines = write(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, ROWS)))
    array = write(tmp_path / "rows.json", "\n" + json.dumps(ROWS, indent=indent))
    for limit in (None, 0, 2, 5):
        for source in (lines, array):
            assert list(read_rows(source, dict, limit=limit)) == ROWS[:limit]


def test_a_bad_row_of_an_array_is_told_by_its_number(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.json", json.dumps([{"id": "a"}, 5, {"id": "c"}]))
    with pytest.raises(UserError, match="rows.json:2: not a JSON object"):
        list(read_rows(source, dict))
    bad = BadRows(str(tmp_path / "bad.jsonl"))
    assert len(list(read_rows(source, dict, bad))) == 2
    assert bad.count == 1


def test_a_bad_line_is_told_by_its_number(tmp_path: Path) -> None:
    def refuse(row: dict[str, Any]) -> None:
        raise RowError("no")

    source = write(tmp_path / "rows.jsonl", '\n{"id": 1}\n')
    with pytest.raises(UserError, match="rows.jsonl:2: no"):
        list(read_rows(source, refuse))


def test_an_array_cut_short_is_an_error(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.json", json.dumps(ROWS, indent=1)[:-3])
    with pytest.raises(UserError, match="rows.json:9: not JSON"):
        list(read_rows(source, dict))


def test_an_array_cut_between_two_elements_is_an_error(tmp_path: Path) -> None:
    for text in ('[{"id": "a"}', '[{"id": "a"},', '[\n{"id": "a"},\n{"id": "b"}\n', "["):
        rows = read_rows(write(tmp_path / "rows.json", text), dict)
        with pytest.raises(UserError, match="rows.json, after line .*ends in the middle of its array"):
            for _ in rows:
                pass
    assert list(read_rows(write(tmp_path / "rows.json", "[]"), dict)) == []


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.txt", "rows"])
@pytest.mark.parametrize("indent", [None, 0, 2])
def test_arrays_and_indented_rows_are_known_by_their_content(
    tmp_path: Path, name: str, indent: int | None
) -> None:
    assert list(read_rows(write(tmp_path / name, json.dumps(ROWS, indent=indent)), dict)) == ROWS
    text = "\n".join(json.dumps(row, indent=indent) for row in ROWS)
    assert list(read_rows(write(tmp_path / name, text), dict)) == ROWS


def test_text_around_an_array_is_a_bad_row_of_its_own(tmp_path: Path) -> None:
    bad = BadRows(str(tmp_path / "bad.jsonl"))
    source = write(tmp_path / "rows.json", '[{"id": 1}]] {"id": 2} x')
    assert [row["id"] for row in read_rows(source, dict, bad)] == [1, 2]
    assert bad.count == 2


def test_an_input_without_rows_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("", "\n \n", "[]", "a,b\n"):
        source = write(tmp_path / "rows.jsonl", text)
        assert list(read_rows(source, dict)) == []
        assert capsys.readouterr().err == f"erprm: {source} has no rows\n"
