"""A dataclass from the keys of a TOML or JSON file, with errors that name the file and the key.

Every template goes through `from_table`: a policy's, a PRM format, the format in a PRM's card. The type of a
field says what its key may hold; `__post_init__` of the class checks the rest.
"""

from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from erprm_cli.errors import UsageError

T = TypeVar("T")

NAMES: dict[object, tuple[str, str]] = {  # of one value and of several
    str: ("a string", "strings"),
    bool: ("true or false", "true or false"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    dict: ("a table", "tables"),
}


def from_table(cls: type[T], table: object, source: str, **fixed: Any) -> T:
    """Return the dataclass `cls` with the keys of `table` and the values `fixed` as its fields.

    Raises UsageError that begins with `source` for a key that is unknown, missing or of the wrong type, or
    for what `cls` itself refuses.
    """
    if not isinstance(table, dict):
        raise UsageError("must be a table of keys and values", where=source)
    open_fields = [field for field in fields(cls) if field.name not in fixed]  # type: ignore[arg-type]
    known = [field.name for field in open_fields]
    for key in table:
        if key not in known:
            raise UsageError(f"unknown key {key!r}; known keys: {', '.join(known)}", where=source)
    for field in open_fields:
        if field.name not in table and field.default is MISSING and field.default_factory is MISSING:
            raise UsageError(f"missing key {field.name!r}", where=source)
    types = get_type_hints(cls)
    values = {key: typed(value, types[key], source, key) for key, value in table.items()}
    try:
        return cls(**values, **fixed)
    except UsageError as error:
        raise UsageError(error, where=source) from None


def typed(value: object, kind: Any, source: str, key: str) -> Any:
    """Return `value` as the type `kind`, with lists as tuples; one value stands for a list of one.

    Raises UsageError if it is of another type.
    """
    import msgspec  # here, because `--help` loads this module

    is_single = get_origin(kind) is tuple and not isinstance(value, list | tuple)
    try:
        return msgspec.convert([value] if is_single else value, kind, strict=True)
    except msgspec.ValidationError:
        raise UsageError(f"{key!r} must be {type_name(kind)}, not {value!r:.80}", where=source) from None


def type_name(kind: Any) -> str:
    """Return what a type is called in a message.

    >>> type_name(tuple[int, ...]), type_name(Literal["a", "b"]), type_name(str | None)
    ('a list of integers', 'one of a, b', 'a string')
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is tuple:
        return f"a list of {NAMES[parts[0]][1]}"
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, UnionType):
        return " or ".join(type_name(part) for part in parts if part is not NoneType)
    return NAMES[origin or kind][0]
