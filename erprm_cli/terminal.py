r"""Text of a model or a row, made safe to show: nothing in it moves the cursor, reorders letters or hides.

Rows keep their text exactly; only what is printed for people passes here.

>>> plain("\x1b[2J\x1b[31mred\x1b[0m and \u202eback\u202c [b]bold[/b], [0, 1]")
'red and back [ b]bold[ /b], [0, 1]'
"""

import re
from unicodedata import category

ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    # OSC and its like: titles, links, the clipboard. One without an end loses its beginning alone.
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])(?:[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b[ -/]*[0-~]?"
)
NEWLINES = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
HIDDEN = {"Cc", "Cf", "Cs"}  # controls; format characters, as the bidirectional ones; lone surrogates
MARKUP = re.compile(r"\[(?=[a-z#/@])")  # where rich sees a tag begin


def visible(text: str) -> str:
    """Return `text` without escape sequences, control, bidirectional and invisible characters.

    Newlines and tabs stay; a carriage return becomes a newline. The time is linear in the length.
    """
    if text.isascii() and text.isprintable():
        return text
    text = NEWLINES.sub("\n", ESCAPES.sub("", text))
    return "".join(c for c in text if c in "\n\t" or category(c) not in HIDDEN)


def plain(text: str) -> str:
    """Return `visible` text in which rich finds no markup either: `[b]` becomes `[ b]`."""
    return MARKUP.sub("[ ", visible(text))


def one_line(text: str, width: int = 60) -> str:
    """Return the beginning of `visible` text in one line of at most `width` characters, to be quoted."""
    line = " ".join(visible(text[: 4 * width]).split())
    return line if len(line) <= width and len(text) <= 4 * width else line[: width - 3] + "..."
