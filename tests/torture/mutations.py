"""Changes to bytes and to JSON values, as damage and malice make them; a seeded draw decides which."""

import copy
import random
from typing import Any

CONTROL = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m"


def deep(levels: int) -> Any:
    """Return lists in lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def odd_value(draw: random.Random) -> Any:
    """Return a value that a reader may not expect."""
    values: list[Any] = [
        None,
        True,
        *(-1, 0, 1, 7, 2**31, 2**63, 10**12, 10**300),
        *(0.5, -0.0, 1e308, float("inf"), float("nan")),
        *("", " ", "x", "\x00", CONTROL, "\ud800", "../outside", "/etc/passwd", "{{ 1/0 }}", "a" * 10_000),
        *([], [[]], [0] * 1_000, ["", None, 3], {}, {"": {}}, {CONTROL: CONTROL}, {"a": [1]}),
        deep(draw.choice((50, 300, 900))),
    ]
    return draw.choice(values)


def mutated(value: Any, draw: random.Random) -> Any:
    """Return a copy of a JSON value with one place in it replaced, removed or doubled."""
    try:
        whole = [copy.deepcopy(value)]
    except RecursionError:  # an earlier mutation nested it too deeply
        return odd_value(draw)
    places: list[tuple[Any, Any]] = [(whole, 0)]
    for owner, key in places:  # grows while it is read
        part = owner[key]
        if isinstance(part, dict | list):
            places += [(part, name) for name in (part if isinstance(part, dict) else range(len(part)))]
    owner, key = draw.choice(places)
    action = draw.random()
    if action < 0.15 and owner is not whole:
        del owner[key]
    elif action < 0.25 and isinstance(owner, list) and owner is not whole:
        owner *= draw.choice((2, 100))
    elif action < 0.35 and isinstance(owner[key], int | float) and not isinstance(owner[key], bool):
        owner[key] = owner[key] * draw.choice((-1, 2, 1_000, 10**9)) + draw.choice((0, 1))
    else:
        owner[key] = odd_value(draw)
    return whole[0]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return bytes that are cut, flipped, doubled or overwritten somewhere."""
    place = draw.randrange(len(content) + 1)
    end = place + draw.choice((1, 8, 100))
    flipped = bytearray(content)
    for _ in range(draw.choice((1, 1, 5))):
        if flipped:
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    return draw.choice(
        (
            content[:place],
            b"",
            bytes(flipped),
            bytes(flipped),
            content[:place] + content[end:],
            content[:place] + content,
            content[:place] + bytes(draw.choice((1, 100))) + content[end:],
            content[:place] + draw.randbytes(8) + content[place:],
            draw.choice((b"[", b'{"a":', b"\xff\xfe", b"\n")) * draw.choice((1, 10_000)),
        )
    )
