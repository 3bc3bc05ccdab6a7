import sys
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.terminal.text import HIDDEN, one_line, rendered, visible

PAYLOADS = {
    "\x1b[2J\x1b[1;1Hgone": "gone",  # clears the screen
    "\x1b]0;title\x07text": "text",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\": "link",
    "\x1b]52;c;ZXZpbA==\x07text": "text",  # writes the clipboard
    "\x1b]0;without an end": "0;without an end",
    "\x9b31mred": "red",
    "\x1bP+q544e\x1b\\text": "text",
    "\x1bcreset": "reset",
    "\x1b(0line": "line",
    "a\rb": "a\nb",
    "a\x08\x08b\x7f\x00": "ab",
    "\u202eevil\u202c \u2066x\u2069 \u200f\u061c": "evil x ",
    "zero\u200bwidth\ufeff\U000e0041": "zerowidth",
    "lone \ud83d surrogate": "lone  surrogate",
    "two\nlines\tand a tab": "two\nlines\tand a tab",
    "\\frac{1}{2} ≤ π [0, 1] ки 数": "\\frac{1}{2} ≤ π [0, 1] ки 数",
}


@pytest.mark.parametrize(("text", "shown"), PAYLOADS.items(), ids=range(len(PAYLOADS)))
def test_nothing_but_text_is_left(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text() | st.text(alphabet="\x1b[]\x9b\x9d0;m\\\x07Ab/# \r\n"))
def test_no_text_reaches_the_terminal_or_rich(text: str) -> None:
    shown = visible(text)
    assert not {c for c in shown if category(c) in HIDDEN} - {"\n", "\t"}
    assert rendered(shown, width=10_000, colour=True).split() == shown.split()


def test_long_hostile_text_takes_no_time() -> None:
    for piece in ("\x1b]", "\x9d", "\x1b[", "[a", "\x1b"):
        assert len(visible(piece * 300_000)) <= 900_000


def test_a_quotation_is_one_short_line() -> None:
    assert one_line("one\n two\x1b[31m three") == "one two three"
    assert one_line("x" * 1000, 10) == "xxxxxxx..."
    assert one_line("\x1b[31m" * 100 + "hidden", 10) == "..."
    assert sys.getsizeof(one_line("x" * 10_000_000)) < 200
