"""What a row is: one JSON object, a plain dict. How one is read from a line and written as one.

Reading has the speed of orjson and refuses JSON that two readers would understand differently.
"""

from typing import Any

import orjson

from erprm_cli.errors import RowError
from erprm_cli.terminal.text import one_line

Row = dict[str, Any]

DUMPS_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
LONG_NUMBER = "0" * 19  # digits; fewer always fit 64 bits
TO_ZERO = str.maketrans("123456789", "0" * 9)


def to_line(row: Row) -> bytes:
    """Return `row` as one line of JSON in UTF-8, newline included."""
    return orjson.dumps(row, option=DUMPS_OPTIONS)


def parse_line(line: bytes) -> Row:
    """Return the JSON object that a line holds, or raise RowError that says why there is none."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            line.decode()
        except UnicodeDecodeError as undecodable:
            raise RowError(why(undecodable)) from None
        raise RowError(why(error)) from None
    if not isinstance(row, dict):
        raise RowError(why(None))
    return row


def loads(text: str | bytes) -> Any:
    """As orjson.loads, but refuse what it would change in silence: a field given twice, a large integer.

    Both are rare, and a cheap look tells that most lines have neither.
    """
    value = orjson.loads(text)
    text = text if isinstance(text, str) else text.decode()
    if (
        text.count('":') != _num_fields(value)
        or '" :' in text
        or '"\t:' in text
        or LONG_NUMBER in text.translate(TO_ZERO)
    ):
        import json  # here, as no other line needs it

        json.loads(text, object_pairs_hook=_unique_fields, parse_int=_int64)
    return value


def _num_fields(value: object) -> int:
    """Return how many fields the objects in `value` have; fewer, if a list begins with something else."""
    if isinstance(value, dict):
        return len(value) + sum(_num_fields(item) for item in value.values() if isinstance(item, dict | list))
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return sum(map(_num_fields, value))
    return 0


def _unique_fields(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise Ambiguous(f"the field {name!r} is there more than once")


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 64:
        raise Ambiguous(f"the integer {one_line(digits, 24)} has more than 64 bits; write it as text")
    return 0


class Ambiguous(ValueError):
    """JSON that readers understand differently."""


def why(cause: BaseException | None) -> str:
    """Return why a line is no row; `cause` is what the parser raised, or None if it raised nothing."""
    if cause is None:
        return "not a JSON object"
    if isinstance(cause, UnicodeDecodeError):
        return f"not UTF-8: byte {cause.object[cause.start]:#x} at {cause.start + 1}"
    if isinstance(cause, Ambiguous):
        return str(cause)
    if isinstance(cause, orjson.JSONDecodeError):
        return f"not JSON: {cause.msg} at character {cause.pos + 1}"
    return f"not JSON: {cause}"
