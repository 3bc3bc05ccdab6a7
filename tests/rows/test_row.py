"""Lines that hold a row, and lines that different readers would understand differently."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.errors import UserError
from erprm_cli.rows.row import MAX_DEPTH, loads, to_line
from tests.io.helpers import numbers


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"n":1,"n":2}', "duplicate field 'n'"),
        ('{"n" :1,"n":2}', "duplicate field 'n'"),
        ('{"n":{"a":[{"x":1,"x":1}]}}', "duplicate field 'x'"),
        ('{"n":18446744073709551616}', "the integer 18446744073709551616 has more than 64 bits"),
        ('{"n":[-9223372036854775809]}', "the integer -9223372036854775809 has more than 64 bits"),
        ('{"n":' + "9" * 300 + "}", "the integer 999999999999999999999... has more than 64 bits"),
        ('{"n":' + "9" * 5_000 + "}", "not JSON: number is infinity"),
    ],
    ids=range(7),
)
def test_what_json_readers_would_silently_change_is_refused(tmp_path: Path, line: str, reason: str) -> None:
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
def test_no_good_row_is_refused_as_ambiguous(value: Any, separators: tuple[str, str]) -> None:
    line = json.dumps({"value": value}, ensure_ascii=False, separators=separators)
    with suppress(UnicodeEncodeError):  # lone surrogates
        line.encode()
        assert loads(line) == orjson.loads(line)


@pytest.mark.parametrize("depth", [10, 200, 248, 249, 250, 254, 255, 300, 999, 1_023, 1_024, 5_000])
@pytest.mark.parametrize("brackets", ["[,]", '{"a":,}'])
def test_deep_nesting_is_written_again_or_refused(depth: int, brackets: str) -> None:
    opening, closing = brackets.split(",")
    line = '{"n":[1,' + opening * depth + "1" + closing * depth + "]}"
    if depth + 2 <= MAX_DEPTH:
        assert to_line(loads(line)) == line.encode() + b"\n"
    else:
        with pytest.raises(ValueError, match="nested more than 250 levels deep|limit"):
            loads(line)
