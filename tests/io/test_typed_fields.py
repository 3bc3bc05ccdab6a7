"""Dataclasses from the keys of a file."""

from dataclasses import dataclass

import pytest

from erprm_cli.errors import UsageError
from erprm_cli.io.typed_fields import from_table


@dataclass(frozen=True)
class Settings:
    name: str
    count: int
    stop: tuple[str, ...] = ()


def test_a_table_becomes_a_dataclass() -> None:
    made = from_table(Settings, {"count": 1, "stop": ["a"]}, "f.toml", name="f")
    assert made == Settings("f", 1, ("a",))


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"count": 1, "foo": 2}, "unknown key 'foo'; known keys: count, stop"),
        ({"count": 1, "name": "x"}, "unknown key 'name'; known keys: count, stop"),
        ({"stop": []}, "missing key 'count'"),
        ({"count": "1"}, "'count' must be an integer, not '1'"),
        ({"count": 1, "stop": "a"}, "'stop' must be a list of strings, not 'a'"),
        ([], "must be a table of keys and values"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(table: object, reason: str) -> None:
    with pytest.raises(UsageError, match=f"^f.toml: {reason}$"):
        from_table(Settings, table, "f.toml", name="f")
