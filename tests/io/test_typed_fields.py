from dataclasses import dataclass

import pytest

from erprm_cli.errors import UsageError
from erprm_cli.io.typed_fields import from_table, typed


@dataclass
class Example:
    name: str
    size: int
    tags: tuple[str, ...] = ()


def test_a_table_becomes_a_dataclass() -> None:
    made = from_table(Example, {"size": 3, "tags": ["a"]}, "x.toml", name="x")
    assert made == Example("x", 3, ("a",))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"size": 1, "foo": 2}, "x.toml: unknown key 'foo'; known keys: size, tags"),
        ({"size": 1, "name": "y"}, "x.toml: unknown key 'name'; known keys: size, tags"),
        ({"tags": []}, "x.toml: missing key 'size'"),
        ({"size": "1"}, "x.toml: 'size' must be an integer, not '1'"),
        ({"size": 1.0}, "x.toml: 'size' must be an integer, not 1.0"),
        ({"size": True}, "x.toml: 'size' must be an integer, not True"),
        ({"size": 1, "tags": "a"}, "x.toml: 'tags' must be a list of strings, not 'a'"),
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
