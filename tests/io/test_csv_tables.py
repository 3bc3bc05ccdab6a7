"""CSV and TSV are read as rows, whatever the name of the file."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.errors import UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.csv_tables import table_lines
from erprm_cli.io.reading import read_rows

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


def read(path: Path, text: str | bytes, bad: BadRows | None = None) -> list[object]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_rows(str(path), dict, bad))


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.txt"])
@pytest.mark.parametrize("sign", [",", "\t", ";"])
def test_a_table_is_known_by_its_header(tmp_path: Path, name: str, sign: str) -> None:
    text = f"question{sign}answer\n\"one, 1; or 'a\tb'?\"{sign}007\n\ntwo{sign}\n"
    assert read(tmp_path / name, text) == [
        {"question": "one, 1; or 'a\tb'?", "answer": "007"},
        {"question": "two", "answer": None},
    ]


def test_cells_of_fields_that_are_not_text_hold_json(tmp_path: Path) -> None:
    text = 'id,sample,steps,level\n7,0,"[""a"", ""b""]",3\n7,x,[,[1]\n'
    assert read(tmp_path / "in.csv", text) == [
        {"id": "7", "sample": 0, "steps": ["a", "b"], "level": "3"},
        {"id": "7", "sample": "x", "steps": "[", "level": "[1]"},
    ]


def test_one_column_needs_the_name_of_a_table(tmp_path: Path) -> None:
    assert read(tmp_path / "in.csv", "problem\n1+1?\n") == [{"problem": "1+1?"}]
    with pytest.raises(UserError, match="in.jsonl:1: not JSON"):
        read(tmp_path / "in.jsonl", "problem\n1+1?\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n1,2,3\n", "in.csv:3: 3 cells for 2 columns (a, b)"),
        ('a,b\n"1\n2",2\n1\n', "in.csv:4: 1 cells for 2 columns (a, b)"),
        ('a,b\n1,2\n"1,2\n', "in.csv:3: not CSV: unexpected end of data"),
        (b"a,b\n1,\xff\n", "in.csv:2: not UTF-8: byte 0xff"),
        ("a,b,a\n1,2,3\n", "in.csv, line 1: the column 'a' occurs twice"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path / "in.csv", text)
    assert told in str(caught.value)


def test_the_rows_after_a_bad_one_are_read(tmp_path: Path) -> None:
    bad = BadRows(str(tmp_path / "bad.jsonl"))
    assert read(tmp_path / "in.csv", 'a,b\n1\n3,4\n{"a":1}\n5,"6\n', bad) == [{"a": "3", "b": "4"}]
    assert bad.count == 3


@given(st.lists(st.tuples(CELL, CELL)), st.sampled_from([",", "\t", ";"]))
def test_any_text_in_cells_comes_back(rows: list[tuple[str, str]], sign: str) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=sign, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
        [("a", "b"), *rows]
    )
    blocks = [[line.encode()] for line in text.getvalue().removesuffix("\n").split("\n")]
    made = [line for block in table_lines(blocks, sign, "in") for line in block]
    assert [json.loads(line) for line in made if line] == [{"a": a or None, "b": b or None} for a, b in rows]
    assert len(made) == len(blocks)
