"""Reads a JSON array of objects as JSON Lines, in constant memory; many data sets are one array.

Why not ijson: it yields parsed values, and we need the bytes of each element and its line in the file.
Unknown fields must pass through as written (1.10), duplicate fields must be noticed, and an element that is
not valid JSON must not end the file.
"""

import re
from collections.abc import Iterable, Iterator

# Inside a string only its end matters; outside, the start of a string, brackets, commas and newlines.
IN_STRING = re.compile(rb'["\\]')
OUTSIDE = re.compile(rb'["{}\[\],\n]')


def array_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of `blocks` with each element of the array on one line; other text is unchanged.

    An element is moved to the line on which it begins, so line numbers are those of the file. If several
    elements share a line, each counts as a line.

    >>> list(b"".join(array_lines([b'[\\n {"n":\\n1},\\n {"n": 2}]'])).splitlines())
    [b' ', b' {"n": 1}', b' ', b' {"n": 2} ']
    """
    depth, in_string, escaped, begun = 0, False, False, False
    held = b""  # newlines inside an element; they are yielded after it
    comma = False  # seen after an element, with no newline since
    blocks = iter(blocks)
    for block in blocks:
        if not begun:
            if not (stripped := block.removeprefix(b"\xef\xbb\xbf").lstrip()):
                yield block
                continue
            begun = True
            if not stripped.startswith(b"["):
                yield block
                yield from blocks
                return
        out, position = [], 0
        while position < len(block):
            if escaped:
                escaped = False
                out.append(block[position : position + 1])
                position += 1
                continue
            match = (IN_STRING if in_string else OUTSIDE).search(block, position)
            end = len(block) if match is None else match.start()
            if (text := block[position:end]) and comma and text.strip():
                out.append(b"\n")
                comma = False
            out.append(text)
            if match is None:
                break
            sign, position = match.group(), match.end()
            if in_string:
                in_string, escaped = sign != b'"', sign == b"\\"
                out.append(sign)
                continue
            if comma and sign not in b"\n,":
                out.append(b"\n")
                comma = False
            if sign == b'"':
                in_string = True
            elif sign in b"{[":
                depth += 1
                sign = b" " if depth == 1 else sign
            elif sign in b"}]":
                depth -= 1
                sign = b" " if depth == 0 else sign
                if depth == 1:
                    sign, held = sign + held, b""
                    comma = False
            elif sign == b"\n" and depth > 1:
                held += sign
                sign = b" "
            elif sign == b"\n":
                comma = False
            elif depth == 1:  # a comma between two elements
                comma, sign = True, b" "
            out.append(sign)
        yield b"".join(out)
    if held:
        yield held
