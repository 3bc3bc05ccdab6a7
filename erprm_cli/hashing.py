"""Seeds and names that depend on content only: the same on every machine and in every run."""

from dataclasses import fields
from hashlib import blake2b, sha256
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
    return blake2b(orjson.dumps(values), digest_size=16).digest()


def fields_hash(record: Any) -> str:
    """Return a hash of the fields of a dataclass, without `name` and without those that have their default.

    So a field that a later version adds does not change the hash.
    """
    values = {
        field.name: value
        for field in fields(record)
        if field.name != "name" and (value := getattr(record, field.name)) != field.default
    }
    return content_hash(orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode())
