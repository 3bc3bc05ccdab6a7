r"""Whether two answers are equal, decided from their text alone: canonical forms and exact numbers.

>>> canonical_form("1,000.0") == canonical_form(r"\$1000") == "1000"
True
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from erprm_cli.answers.extraction import unwrap

MAX_LENGTH = 512  # characters; the longest answer in MATH has fewer than half of that
ROUNDED_PLACES = 6  # a decimal with at least this many places may be rounded, as in math-verify
FLOAT_PLACES = 12  # decimal places of a printed float that can be trusted

# LaTeX and Unicode spellings of the same thing, replaced in this order.
SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[−–]", "-"),
        (r"\\!\s*|\\(?:left|right|displaystyle)(?![A-Za-z])", ""),
        (r"\{,\}", ","),
        (r"\\[,;:> ]|\\q?quad(?![A-Za-z])|[~\s]+", " "),
        (r"\\?\$|[€£]", ""),
        (r"\\%", "%"),
        (r"°|\\degree(?![A-Za-z])|\^\s*\{\s*\\circ\s*\}", r"^\\circ"),
        (r"π", r"\\pi "),
        (r"\\([lg])eq(?![A-Za-z])", r"\\\1e"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r" *([{}]) *", r"\1"),
        (r"\\frac *(\d) *(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac *(\d)\{", r"\\frac{\1}{"),
        (r"(\\frac\{[^{}]*\})(\d)", r"\1{\2}"),
        (r"\\sqrt *(\d)", r"\\sqrt{\1}"),
        (r"([_^])\{(\w)\}", r"\1\2"),
        (r" +", " "),
    )
]
TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf)\{([^{}]*)\}")
SPACE = re.compile(r"(?<!\d) | (?!\d)")  # "1 2" is not "12"
WORDS = re.compile(r"[A-Za-z][a-z]{2,}(?: [A-Za-z]+)*")  # east, All real numbers; but not xy
CHOICE = re.compile(r"\(([A-Z])\)")
IN_BASE = re.compile(r"[0-9A-Z]+_\{?\d+\}?")

# A number, what may follow it, and the ways to write a number.
PLAIN = r"(?:(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+)"
UNIT = (  # at least three letters or a known short word, but no word that changes the number
    r"(?!dozen|hundred|thousand|million|billion|trillion|hal(?:f|ves)|thirds?|quarters?|fourths?|fifths?)"
    r"(?<![A-Za-z\\])(?:[A-Za-z]{3,}|[ckm]?m|k?g|ft|in|mi|yd|lbs?|oz|hrs?|m?L|is|of|to|at|by)(?: ?\^[23])?"
)
TAIL = re.compile(rf" ?(?:(?P<percent>%|percent)|\^\\circ|{UNIT}(?:[ /]{UNIT})*)\.?$")
NUMBERS = [
    re.compile(rf"(?P<sign>[+-]?) ?{pattern}")
    for pattern in (
        rf"(?P<above>{PLAIN})(?:[eE](?P<exponent>[+-]?\d{{1,3}}))?",
        rf"(?P<above>{PLAIN}) ?(?:\\times|\\cdot|\*|×) ?10 ?\^\{{?(?P<exponent>-?\d{{1,3}})\}}?",
        rf"(?P<above>{PLAIN}) ?/ ?(?P<below>{PLAIN})",
        rf"\\frac\{{(?P<above>-?{PLAIN})\}}\{{(?P<below>-?{PLAIN})\}}",
        r"(?P<whole>\d+) ?\\frac\{(?P<above>\d+)\}\{(?P<below>\d+)\}",
        r"(?P<whole>\d+) (?P<above>\d+) ?/ ?(?P<below>\d+)",
    )
]


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written: its exact value, its number of decimal places, and whether it is a percentage."""

    value: Fraction
    places: int = 0
    percent: bool = False

    def equals(self, other: "Number") -> bool:
        """Return whether both are the same number; 15 % equals 15 and 0.15, and 0.333333 equals 1/3."""
        if self.percent == other.percent:
            return self._rounds_to(other)
        percent, plain = (self, other) if self.percent else (other, self)
        share = Number(percent.value / 100, percent.places + 2)
        return percent._rounds_to(plain) or share._rounds_to(plain)

    def _rounds_to(self, other: "Number") -> bool:
        if self.value == other.value:
            return True
        places = min(max(self.places, other.places), FLOAT_PLACES)
        return places >= ROUNDED_PLACES and abs(self.value - other.value) <= Fraction(1, 2 * 10**places)


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What is cheap to find out about an answer."""

    form: str  # canonical
    number: Number | None  # if it is one
    is_words: bool  # such as "east"


def canonical_form(prediction: str) -> str:
    r"""Return a normal form that is the same for equal numbers and for LaTeX spellings of the same answer.

    >>> [canonical_form(answer) for answer in (r"\dfrac{1}{4}", "0.25", r"\left( 3, \pi \right)")]
    ['1/4', '1/4', '(3,\\pi)']
    """
    return _parse(prediction).form if len(prediction) <= MAX_LENGTH else prediction.strip()


def parse_number(text: str) -> Number | None:
    r"""Return the exact number that `text` stands for, or None if it is not a number.

    It reads 1,000 and 12.50, \frac12, 1/2 and 1 1/2, 3e5 and 3 \times 10^5, 15\%, $5, 5 \text{ cm}.

    >>> parse_number(r"-\frac12").value == Fraction("-0.5")
    True
    >>> parse_number("1,2") is None  # a pair, not a thousand
    True
    """
    return _parse(text).number if len(text) <= MAX_LENGTH else None


@lru_cache(maxsize=1 << 14)
def _parse(answer: str) -> ParsedAnswer:
    spelled = unwrap(answer)
    for pattern, replacement in SPELLINGS:
        spelled = pattern.sub(replacement, spelled)
    spelled = spelled.strip()
    value = _number(re.sub(" +", " ", TEXT.sub(r" \1", spelled)).strip())
    if value is not None:
        return ParsedAnswer(f"{value.value}{'%' * value.percent}", value, is_words=False)
    text = CHOICE.sub(r"\1", TEXT.sub(r"\1", spelled)).strip()
    words = len(text) > 1 and bool(TEXT.fullmatch(spelled) or WORDS.fullmatch(text))
    return ParsedAnswer(SPACE.sub("", text.lower() if words else text), None, words)


def _number(text: str) -> Number | None:
    tail = TAIL.search(text)
    bare = text[: tail.start()] if tail else text
    match = next(filter(None, (pattern.fullmatch(bare) for pattern in NUMBERS)), None)
    if match is None:
        return None
    part = {name: re.sub("[, ]", "", found) for name, found in match.groupdict("").items()}
    below = Fraction(part.get("below", 1))
    if not below:
        return None
    value = Fraction(part.get("whole", 0)) + Fraction(part["above"]) / below
    value *= Fraction(10) ** int(part.get("exponent") or 0)
    places = len(part["above"].partition(".")[2]) if below == 1 else 0
    return Number(-value if part["sign"] == "-" else value, places, bool(tail and tail["percent"]))


ASSIGNED = re.compile(r"[A-Za-z]=(.+)")
CONTENT = re.compile(r"\w")


def compare_cheaply(gold: str, prediction: str) -> bool | None:
    """Return whether two answers are equal, or None if only math-verify can tell."""
    known, tried = _parse(gold), _parse(prediction)
    if known.form == tried.form:
        return bool(known.form)
    if known.number and (assigned := ASSIGNED.fullmatch(tried.form)):  # x = 5
        tried = _parse(assigned[1])
    if known.number and tried.number:
        return known.number.equals(tried.number)
    if known.is_words and tried.is_words:
        return False
    if IN_BASE.fullmatch(known.form) and IN_BASE.fullmatch(tried.form):
        return False  # math-verify ignores the base
    if not CONTENT.search(tried.form):
        return False
    return None
