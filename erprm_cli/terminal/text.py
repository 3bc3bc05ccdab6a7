r"""Text for the terminal: made safe to print, and tables and colours drawn by rich.

Text of a model or a row is shown without anything that moves the cursor, reorders letters, hides text or is
markup. Only text that is displayed passes here; rows keep theirs unchanged.

>>> visible("\x1b[2J\x1b[31mred\x1b[0m and \u202eback\u202c [b]bold[/b], [0, 1]")
'red and back [b]bold[/b], [0, 1]'
"""

import os
import re
from typing import TYPE_CHECKING
from unicodedata import category

if TYPE_CHECKING:
    from rich.console import RenderableType

ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    # OSC and similar: titles, links, the clipboard. If it has no end, only its beginning is removed.
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])(?:[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b[ -/]*[0-~]?"
)
NEWLINES = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
TRAILING_SPACES = re.compile(r" +(?=(?: |\x1b\[[\d;]*m)*$)", re.MULTILINE)  # colour codes may follow them
HIDDEN = {"Cc", "Cf", "Cs"}  # controls; format characters such as bidirectional ones; lone surrogates


def visible(text: str) -> str:
    """Return `text` without escape sequences, control, bidirectional and invisible characters.

    Newlines and tabs are kept; a carriage return becomes a newline. The time is linear in the length.
    """
    if text.isascii() and text.isprintable():
        return text
    text = NEWLINES.sub("\n", ESCAPES.sub("", text))
    return "".join(c for c in text if c in "\n\t" or category(c) not in HIDDEN)


def one_line(text: str, width: int = 60) -> str:
    """Return the beginning of `visible(text)` as one line of at most `width` characters, for quoting."""
    line = " ".join(visible(text[: 4 * width]).split())
    return line if len(line) <= width and len(text) <= 4 * width else line[: width - 3] + "..."


def wants_colour() -> bool:
    """Return whether colours are allowed on the terminal, if there is one (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def rendered(drawing: "RenderableType", width: int, colour: bool) -> str:
    """Return a table or text as rich draws it: lines of at most `width` columns without trailing spaces.

    Markup in text is not interpreted. Without `colour` there are no escape sequences.
    """
    from rich.console import Console  # imported here: most commands draw nothing

    console = Console(
        width=width,
        force_terminal=colour,
        color_system="256" if colour else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with console.capture() as captured:
        console.print(drawing)
    return TRAILING_SPACES.sub("", captured.get())
