"""Seeds and names that depend on content only: the same on every machine and in every run."""

from dataclasses import MISSING, Field, fields
from hashlib import sha256
from typing import Any

import orjson


def content_hash(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of `text`."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def derive_seed(*parts: object) -> int:
    """Return a seed of 63 bits that depends on the text of every part (and not on Python's hash seed)."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(sha256(text).digest()[:8], "big") >> 1


def digest(*values: object) -> bytes:
    """Return 16 bytes that differ, in practice, whenever the JSON `values` differ, unlike Python's hash()."""
    return sha256(orjson.dumps(values)).digest()[:16]


def fields_hash(record: Any) -> str:
    """Return a hash of the fields of a dataclass, without `name` and without those that have their default.

    So a field that a later version adds does not change the hash.
    """
    values = {
        field.name: getattr(record, field.name)
        for field in fields(record)
        if field.name != "name" and getattr(record, field.name) != _default(field)
    }
    return content_hash(orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode())


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()
