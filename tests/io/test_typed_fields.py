from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from erprm_cli.errors import UsageError
from erprm_cli.io.typed_fields import from_table, typed


@dataclass
class Example:
    name: str
    size: int
    tags: tuple[str, ...] = ()
    kind: Literal["a", "b"] = "a"
    note: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise UsageError("'size' is below 0")


def test_a_table_becomes_a_dataclass() -> None:
    made = from_table(Example, {"size": 3, "tags": ["a"]}, "x.toml", name="x")
    assert made == Example("x", 3, ("a",))


def test_one_value_stands_for_a_list_of_one() -> None:
    assert from_table(Example, {"size": 3, "tags": "ab"}, "x.toml", name="x").tags == ("ab",)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"size": 1, "foo": 2}, "x.toml: unknown key 'foo'; known keys: size, tags, kind, note, more"),
        ({"size": 1, "name": "y"}, "x.toml: unknown key 'name'; known keys: size, tags, kind, note, more"),
        ({"tags": []}, "x.toml: missing key 'size'"),
        ({"size": "1"}, "x.toml: 'size' must be an integer, not '1'"),
        ({"size": 1.0}, "x.toml: 'size' must be an integer, not 1.0"),
        ({"size": True}, "x.toml: 'size' must be an integer, not True"),
        ({"size": 1, "tags": 2}, "x.toml: 'tags' must be a list of strings, not 2"),
        ({"size": 1, "tags": [2]}, "x.toml: 'tags' must be a list of strings, not [2]"),
        ({"size": 1, "kind": "c"}, "x.toml: 'kind' must be one of a, b, not 'c'"),
        ({"size": 1, "more": 2}, "x.toml: 'more' must be a table, not 2"),
        ({"size": 1, "note": 2}, "x.toml: 'note' must be a string, not 2"),
        ({"size": -1}, "x.toml: 'size' is below 0"),
        ([1], "x.toml: must be a table of keys and values"),
    ],
)
def test_a_wrong_key_is_named(table: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_table(Example, table, "x.toml", name="x")
    assert str(caught.value) == message


def test_a_single_value_is_checked_too() -> None:
    assert typed([1, 2], tuple[int, ...], "x", "key") == (1, 2)
    with pytest.raises(UsageError, match="x: 'key' must be true or false, not 0"):
        typed(0, bool, "x", "key")
