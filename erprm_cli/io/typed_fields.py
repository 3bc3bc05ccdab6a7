"""A dataclass from the keys of a TOML or JSON file, with errors that name the file and the key."""

from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

from erprm_cli.errors import UsageError

T = TypeVar("T")

TYPE_NAMES: dict[object, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    tuple[str, ...]: "a list of strings",
    tuple[int, ...]: "a list of integers",
    dict[str, Any]: "a table",
}


def from_table(cls: type[T], table: object, source: str, **fixed: Any) -> T:
    """Return the dataclass `cls` with the keys of `table` and the values `fixed` as its fields.

    Raises UsageError that begins with `source` for a key that is unknown, missing or of the wrong type.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{source}: must be a table of keys and values")
    known = [field.name for field in fields(cls) if field.name not in fixed]  # type: ignore[arg-type]
    types = get_type_hints(cls)
    for key in table:
        if key not in known:
            raise UsageError(f"{source}: unknown key {key!r}; known keys: {', '.join(known)}")
    for field in fields(cls):  # type: ignore[arg-type]  # a dataclass
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        if field.name in known and field.name not in table and not has_default:
            raise UsageError(f"{source}: missing key {field.name!r}")
    return cls(**{key: typed(value, types[key], source, key) for key, value in table.items()}, **fixed)


def typed(value: object, kind: Any, source: str, key: str) -> Any:
    """Return `value`, with lists as tuples, or raise UsageError if it is not of the type `kind`."""
    import msgspec  # here, because `--help` loads this module

    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        raise UsageError(f"{source}: {key!r} must be {TYPE_NAMES[kind]}, not {value!r}") from None
