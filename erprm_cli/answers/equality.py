r"""Whether two answers are equal, decided from their text alone: exact, canonical and numeric forms.

>>> canonical("1,000.0") == canonical(r"\$1000") == "1000"
True
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from erprm_cli.answers.extraction import _unwrap

MAX_LENGTH = 512  # characters; the longest answer in MATH has fewer than half as many
ROUNDED_PLACES = 6  # a decimal with as many places may be a rounding, as in math-verify
FLOAT_PLACES = 12  # a printed float is not to be trusted beyond


# ---- Canonical forms

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

# A number, what may follow it, and the forms a number has.
PLAIN = r"(?:(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+)"
UNIT = (  # three letters or a known short word; none that changes the number
    r"(?!dozen|hundred|thousand|million|billion|trillion|hal(?:f|ves)|thirds?|quarters?|fourths?|fifths?)"
    r"(?<![A-Za-z\\])(?:[A-Za-z]{3,}|[ckm]?m|k?g|ft|in|mi|yd|lbs?|oz|hrs?|m?L|is|of|to|at|by)(?: ?\^[23])?"
)
TAIL = re.compile(rf" ?(?:(?P<percent>%|percent)|\^\\circ|{UNIT}(?:[ /]{UNIT})*)\.?$")
NUMBERS = [
    re.compile(rf"(?P<sign>[+-]?) ?{form}")
    for form in (
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
    """A number as written: its exact value, the decimal places it shows, and whether it is in percent."""

    value: Fraction
    places: int = 0
    percent: bool = False

    def equals(self, other: "Number") -> bool:
        """Whether both are the same number; 15 % is 15 as well as 0.15, and 0.333333 is 1/3."""
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
class Form:
    """What can be seen in an answer cheaply: its canonical form, the number it is, whether it is words."""

    text: str
    number: Number | None
    words: bool


def canonical(prediction: str) -> str:
    r"""Return a cheap normal form, shared by equal numbers and by spellings that differ in LaTeX only.

    >>> canonical(r"\dfrac{1}{4}"), canonical("0.25"), canonical(r"\left( 3, \pi \right)")
    ('1/4', '1/4', '(3,\\pi)')
    """
    return _form(prediction).text if len(prediction) <= MAX_LENGTH else prediction.strip()


def number(text: str) -> Number | None:
    r"""Return the number that `text` is, exactly, or None.

    Understood are 1,000 and 12.50, \frac12, 1/2 and 1 1/2, 3e5 and 3 \times 10^5, 15\%, $5, 5 \text{ cm}.

    >>> number(r"-\frac12").value == Fraction("-0.5")
    True
    >>> number("1,2") is None  # a pair, not a thousand
    True
    """
    return _form(text).number if len(text) <= MAX_LENGTH else None


@lru_cache(maxsize=1 << 14)
def _form(answer: str) -> Form:
    spelled = _unwrap(answer)
    for pattern, replacement in SPELLINGS:
        spelled = pattern.sub(replacement, spelled)
    spelled = spelled.strip()
    value = _number(re.sub(" +", " ", TEXT.sub(r" \1", spelled)).strip())
    if value is not None:
        return Form(f"{value.value}{'%' * value.percent}", value, words=False)
    text = CHOICE.sub(r"\1", TEXT.sub(r"\1", spelled)).strip()
    words = len(text) > 1 and bool(TEXT.fullmatch(spelled) or WORDS.fullmatch(text))
    return Form(SPACE.sub("", text.lower() if words else text), None, words)


def _number(text: str) -> Number | None:
    tail = TAIL.search(text)
    bare = text[: tail.start()] if tail else text
    match = next(filter(None, (form.fullmatch(bare) for form in NUMBERS)), None)
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
    known, tried = _form(gold), _form(prediction)
    if known.text == tried.text:
        return bool(known.text)
    if known.number and (assigned := ASSIGNED.fullmatch(tried.text)):  # x = 5
        tried = _form(assigned[1])
    if known.number and tried.number:
        return known.number.equals(tried.number)
    if known.words and tried.words:
        return False
    if IN_BASE.fullmatch(known.text) and IN_BASE.fullmatch(tried.text):
        return False  # math-verify drops the base
    if not CONTENT.search(tried.text):
        return False
    return None
