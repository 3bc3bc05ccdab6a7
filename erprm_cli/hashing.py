"""Seeds and names that depend on content alone: the same on every machine and in every run."""

from hashlib import sha256


def content_hash(text: str) -> str:
    """Return 16 hex digits that name `text`."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part and on nothing else (not on Python's hash seed)."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(sha256(text).digest()[:8], "big") >> 1
