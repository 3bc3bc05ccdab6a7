"""Reads JSON arrays and JSON that is indented as JSON Lines, in constant memory.

Why not ijson: it yields parsed values, and we need the bytes of each element and its line in the file.
Unknown fields must pass through as written (1.10), duplicate fields must be noticed, and an element that is
not valid JSON must not end the file.
"""

import re
from collections.abc import Iterable, Iterator

# Inside a string only its end matters; outside, the start of a string, brackets, commas and newlines.
IN_STRING = re.compile(rb'["\\]')
OUTSIDE = re.compile(rb'["{}\[\],\n]')
HELD_LINES = 1 << 16  # newlines yielded at a time


def value_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of `blocks` with each object on one line; an array becomes its elements.

    A value is moved to the line on which it begins, so line numbers are those of the file. If several
    values share a line, each counts as a line. Raises EOFError if the text ends between two elements.

    >>> list(b"".join(value_lines([b'[\\n {"n":\\n1},\\n {"n": 2}]'])).splitlines())
    [b' ', b' {"n": 1}', b' ', b' {"n": 2} ']
    >>> list(b"".join(value_lines([b'{"n":\\n1}\\n{"n":\\n2}'])).splitlines())
    [b'{"n": 1}', b'', b'{"n": 2}']
    """
    depth, in_string, escaped = 0, False, False
    row_depth = 0  # of the brackets around a row: 1 in an array
    held = 0  # newlines inside a row; they are yielded after it
    parted = False  # a row has ended, with no newline since
    for block in blocks:
        out, position = [], 0
        while position < len(block):
            if escaped:
                escaped = False
                out.append(block[position : position + 1])
                position += 1
                continue
            match = (IN_STRING if in_string else OUTSIDE).search(block, position)
            end = len(block) if match is None else match.start()
            if (text := block[position:end]) and parted and text.strip():
                out.append(b"\n")
                parted = False
            out.append(text)
            if match is None:
                break
            sign, position = match.group(), match.end()
            if in_string:
                in_string, escaped = sign != b'"', sign == b"\\"
                out.append(sign)
                continue
            if parted and sign not in b"\n,]":
                out.append(b"\n")
                parted = False
            if sign == b'"':
                in_string = True
            elif sign in b"{[":
                if depth == 0:
                    row_depth = int(sign == b"[")
                    sign = b" " if sign == b"[" else sign
                depth += 1
            elif sign in b"}]":
                depth -= 1
                if depth < row_depth:  # the end of the array, or a bracket too many
                    is_end = sign == b"]" and row_depth == 1
                    sign = b" " if is_end else b"\n" + sign
                    depth, row_depth, parted = 0, 0, True
                elif depth == row_depth:
                    parted = True
                    if held:
                        out.append(sign)
                        while held > HELD_LINES:
                            out.append(b"\n" * HELD_LINES)
                            yield b"".join(out)
                            out, held = [], held - HELD_LINES
                        sign, held, parted = b"\n" * held, 0, False
            elif sign == b"\n" and depth > row_depth:
                held += 1
                sign = b" "
            elif sign == b"\n":
                parted = False
            elif depth == row_depth == 1:  # a comma between two elements
                parted, sign = True, b" "
            out.append(sign)
        yield b"".join(out)
    if held:
        yield b"\n"
    elif depth == row_depth == 1:
        yield b"\n"  # the last row is whole
        raise EOFError("the file ends in the middle of its array; it is an incomplete copy")
