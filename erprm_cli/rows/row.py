"""What a row is: one JSON object, a plain dict, on one line.

Reading is as fast as orjson, but rejects JSON that different readers would understand differently.
"""

from typing import Any

import orjson

from erprm_cli.errors import RowError
from erprm_cli.terminal.text import one_line

Row = dict[str, Any]

DUMPS_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
MAX_DEPTH = 250  # levels of lists and objects in a row; orjson writes 254, and commands may wrap a field
LONG_NUMBER = "0" * 19  # digits; a shorter integer always fits into 64 bits
TO_ZERO = str.maketrans("123456789", "0" * 9)


def to_line(row: Row) -> bytes:
    """Return `row` as one line of JSON in UTF-8, with its newline."""
    return orjson.dumps(row, option=DUMPS_OPTIONS)


def parse_line(line: bytes) -> Row:
    """Return the JSON object on a line, or raise RowError that says what is wrong with the line."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            line.decode()
        except UnicodeDecodeError as undecodable:
            raise RowError(reason(undecodable)) from None
        raise RowError(reason(error)) from None
    if not isinstance(row, dict):
        raise RowError(reason(None))
    return row


def loads(text: str | bytes) -> Any:
    """Return orjson.loads(text), but reject what it would silently change: duplicate fields, large integers.

    What is nested too deeply to be written again is rejected as well. All are rare: cheap tests show that
    most lines have none of them.
    """
    value = orjson.loads(text)
    text = text if isinstance(text, str) else text.decode()
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    if (
        text.count('":') != _num_fields(value)
        or '" :' in text
        or '"\t:' in text
        or LONG_NUMBER in text.translate(TO_ZERO)
    ):
        import json  # here, because no other line needs it

        json.loads(text, object_pairs_hook=_unique_fields, parse_int=_int64)
    return value


def _num_fields(value: object) -> int:
    """Count the fields of all objects in `value`; lists that do not begin with a container are skipped."""
    if isinstance(value, dict):
        return len(value) + sum(_num_fields(item) for item in value.values() if isinstance(item, dict | list))
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return sum(map(_num_fields, value))
    return 0


def _check_depth(value: object, depth: int = 1) -> None:
    """Raise Ambiguous if lists and objects are nested more than MAX_DEPTH levels deep."""
    if depth > MAX_DEPTH:
        raise Ambiguous(f"lists and objects are nested more than {MAX_DEPTH} levels deep")
    for item in value.values() if isinstance(value, dict) else value:  # type: ignore[attr-defined]
        if isinstance(item, dict | list):
            _check_depth(item, depth + 1)


def _unique_fields(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise Ambiguous(f"duplicate field {name!r}")


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 64:
        raise Ambiguous(f"the integer {one_line(digits, 24)} has more than 64 bits; write it as a string")
    return 0


class Ambiguous(ValueError):
    """JSON that different readers understand differently, or that some cannot read."""


def reason(cause: BaseException | None) -> str:
    """Return why a line is not a row: `cause` is the error of the parser, or None if there was none."""
    if cause is None:
        return "not a JSON object"
    if isinstance(cause, UnicodeDecodeError):
        return f"not UTF-8: byte {cause.object[cause.start]:#x} at {cause.start + 1}"
    if isinstance(cause, Ambiguous):
        return str(cause)
    if isinstance(cause, orjson.JSONDecodeError):
        return f"not JSON: {cause.msg} at character {cause.pos + 1}"
    return f"not JSON: {cause}"
