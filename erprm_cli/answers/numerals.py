r"""Numbers as written: exact values, and when a rounded decimal is the same number.

>>> read_numeral(r"-\frac{1}{2}").value
Fraction(-1, 2)
"""

import re
from dataclasses import dataclass
from fractions import Fraction

ROUNDED_PLACES = 6  # a decimal with at least this many places may be rounded, as in math-verify
FLOAT_DIGITS = 12  # significant digits of a printed float that can be trusted
RELATIVE_TOLERANCE = Fraction(1, 10**5)  # between a rounded decimal and the number that it stands for

# The ways to write a number.
PLAIN = r"(?:(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+)"
REPEATING = r"\d*\.\d*\\overline\{\d+\}"
NUMERALS = [
    re.compile(rf"(?P<sign>[+-]?) ?{pattern}(?P<percent> ?(?:%|percent|per cent))?")
    for pattern in (
        rf"(?P<above>{PLAIN})(?:[eE](?P<exponent>[+-]?\d{{1,3}}))?",
        rf"(?P<above>{PLAIN}) ?(?:\\times|\\cdot|\*) ?10 ?(?:\^|\*\*)\{{?(?P<exponent>-?\d{{1,3}})\}}?",
        rf"(?P<above>{PLAIN}) ?/ ?(?P<below>{PLAIN})",
        rf"\\frac\{{(?P<above>-?{PLAIN})\}}\{{(?P<below>-?{PLAIN})\}}",
        r"(?P<whole>\d+) ?\\frac\{(?P<above>\d+)\}\{(?P<below>\d+)\}",
        r"(?P<whole>\d+) (?P<above>\d+) ?/ ?(?P<below>\d+)",
        rf"(?P<above>{REPEATING})",
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
            return self.is_close(other)
        percent, plain = (self, other) if self.percent else (other, self)
        share = Number(percent.value / 100, percent.places + 2 if percent.places else 0)
        return percent.is_close(plain) or share.is_close(plain)

    def is_close(self, other: "Number") -> bool:
        """Return whether the values are equal, or one is a decimal to which the other rounds."""
        if self.value == other.value:
            return True
        places = max(self.places, other.places)
        if places < ROUNDED_PLACES:
            return False
        size = min(abs(self.value), abs(other.value))
        rounding = max(Fraction(1, 2 * 10**places), size / (2 * 10**FLOAT_DIGITS))
        return bool(abs(self.value - other.value) <= min(rounding, size * RELATIVE_TOLERANCE))


def read_numeral(text: str) -> Number | None:
    """Return the number that a respelled text is, or None."""
    match = next(filter(None, (pattern.fullmatch(text) for pattern in NUMERALS)), None)
    if match is None:
        return None
    part = {name: re.sub("[, ]", "", found) for name, found in match.groupdict("").items()}
    below = _exact(part.get("below", "1"))
    if not below:
        return None
    exponent = int(part.get("exponent") or 0)
    value = Fraction(part.get("whole", 0)) + _exact(part["above"]) / below
    value *= Fraction(10) ** exponent
    decimals = part["above"].partition(".")[2]
    places = len(decimals) - exponent if below == 1 and decimals and "overline" not in decimals else 0
    return Number(-value if part["sign"] == "-" else value, max(places, 0), bool(part.get("percent")))


def exact_decimal(text: str) -> Fraction:
    r"""Return the exact value of digits with a point; \overline marks digits that repeat.

    >>> exact_decimal(r"0.\overline{63}") == Fraction(7, 11)
    True
    """
    digits, overline, repeating = text.partition(r"\overline{")
    value = Fraction(f"0{digits}0" if digits.endswith(".") else f"0{digits}")
    if not overline:
        return value
    period = repeating.removesuffix("}")
    places = len(digits.partition(".")[2])
    return value + Fraction(int(period), (10 ** len(period) - 1) * 10**places)


def _exact(digits: str) -> Fraction:
    return -exact_decimal(digits[1:]) if digits.startswith("-") else exact_decimal(digits)
