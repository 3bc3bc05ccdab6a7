"""Seeds and names that depend on content only: the same on every machine and in every run."""

from hashlib import sha256


def content_hash(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of `text`."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def derive_seed(*parts: object) -> int:
    """Return a seed of 63 bits that depends on the text of every part (and not on Python's hash seed)."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(sha256(text).digest()[:8], "big") >> 1
