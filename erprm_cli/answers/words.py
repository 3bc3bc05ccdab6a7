"""Words in answers: number words, units and other words beside a number, clock times, choice letters.

>>> read_number_words("two thirds"), read_number_words("1.5 million")
(Fraction(2, 3), Fraction(1500000, 1))
>>> read_clock_time("7:30 p.m.")
ClockTime(minutes=450, half='pm')
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from erprm_cli.answers.formula_tokens import PLAIN_WORDS

# Number words

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
SMALL = {word: value for value, word in enumerate(ONES)} | {
    word: 10 * value for value, word in enumerate(TENS, start=2)
}
SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
ORDINALS = (
    "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
).split()
PARTS = {"half": 2, "halve": 2, "quarter": 4, "hundredth": 100, "thousandth": 1000} | {
    word: value for value, word in enumerate(ORDINALS, start=3)
}
DIGITS = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")


def read_number_words(text: str) -> Fraction | None:
    """Return the number that words, or digits and words, stand for: "twenty-one", "3 eighths", "2 dozen"."""
    words = [word for word in re.split(r"[ -]+", text.strip().lower()) if word != "and"]
    if not words or len(words) > 16:
        return None
    part = PARTS.get(words[-1].removesuffix("s"))
    if part is None:
        return _count(words)
    count = Fraction(1) if words[:-1] in ([], ["a"], ["one"]) else _count(words[:-1])
    return None if count is None else count / part


def _count(words: list[str]) -> Fraction | None:
    """Return the number of words such as ["one", "hundred", "five"]: scales multiply what stands before."""
    total, current, smallest = Fraction(0), None, None
    for position, word in enumerate(words):
        if word in SCALES:
            if current is None and position:
                return None
            current = (Fraction(1) if current is None else current) * SCALES[word]
            if SCALES[word] >= 1000:
                total, current = total + current, None
            smallest = None
            continue
        value = SMALL.get(word)
        if value is None:
            if position or not DIGITS.fullmatch(word):
                return None
            current = Fraction(word.replace(",", ""))
            continue
        if smallest is not None and not (smallest >= 20 and 0 < value < 10):
            return None  # "two three" is not a number
        current, smallest = (current or 0) + Fraction(value), value
    return total + (current or 0)


# Words beside a number

# What says nothing about the value, and what turns its sign.
LEADS = re.compile(
    r"(?:(?P<negative>negative|minus)|(?:exactly|only|just|approximately|about|around|roughly|nearly|"
    r"a total of|equals|equal to|is))(?![A-Za-z]) *",
    re.IGNORECASE,
)
# Words of one kind exclude one another: 5 cm is not 5 m, and a 5 % increase is not a 5 % decrease. Beside a
# word of another kind, or of none, they say nothing: 5 apples is 5. Each entry: the word, then its spellings.
UNITS = {
    "length": "mm: millimeter millimetre|cm: centimeter centimetre|dm|m: meter metre|km: kilometer kilometre|"
    "in: inch inche|ft: feet foot|yd: yard|mi: mile",
    "time": "ms: millisecond|s: sec second|min: minute|h: hr hour|day|week|month|yr: year",
    "money": "cent: penny pennie|dollar: usd buck|euro: eur|pound|rupee|yen",
    "mass": "mg: milligram|g: gram|kg: kilogram|lb: lbs|oz: ounce|ton|tonne",
    "volume": "mL: ml milliliter millilitre|L: liter litre|gal: gallon|qt: quart|pint|cup",
    "angle": "degree: deg|rad: radian",
    "power": "W: watt|kW: kilowatt|MW: megawatt|hp: horsepower",
    "energy": "J: joule|kJ: kilojoule|kWh|cal|kcal",
    "force": "N: newton|kN",
    "pressure": "Pa|kPa|atm",
    "frequency": "Hz: hertz|kHz|MHz|rpm",
    "electricity": "V: volt|kV|mV|A: amp ampere|mA",
    "speed": "mph|kph|mps",
}
SENSES = {
    "change": "increase: increased more|decrease: decreased less fewer",
    "gain": "profit: gain|loss",
    "direction": "north|northeast|east|southeast|south|southwest|west|northwest",
    "side": "left|right",
    "height": "above|below|up|down",
    "age": "older|younger",
}
KINDS = UNITS | SENSES
CANONICAL = {
    spelling: entry.partition(":")[0]
    for entries in KINDS.values()
    for entry in entries.split("|")
    for spelling in entry.replace(":", " ").split()
}
KIND_OF = {entry.partition(":")[0]: kind for kind, entries in KINDS.items() for entry in entries.split("|")}
FILLERS = frozenset(("is", "of", "to", "at", "by", "in", "on", "a", "an", "sq", "cu"))
# Words that change the number or join it to something else.
CHANGING = frozenset(
    "for if when not nor and but then unless otherwise where while whenever mod modulo base over times plus "
    "minus power squared cubed factorial percent remainder root than least most".split()
).union(SMALL, SCALES, PARTS, PLAIN_WORDS)
LAST_WORD = re.compile(r"([ ,/.(-]*)(?<![A-Za-z\\])([A-Za-z]+)(?: ?\^\{?-?[1-3]\}?)?[ .,)]*$")
DEGREES = re.compile(r" ?\^\\circ(?: ?[CF])?[.,]?$")


@dataclass(frozen=True, slots=True)
class Worded:
    """A number or formula without the words beside it, and what those words say: canonical words of KINDS."""

    bare: str
    said: frozenset[str] = frozenset()

    @property
    def senses(self) -> list[str]:
        """The words of SENSES beside it, in order."""
        return sorted(word for word in self.said if KIND_OF[word] in SENSES)

    def contradicts(self, other: "Worded") -> bool:
        """Return whether both say something of one kind and it differs, such as cm and m."""
        for kind in {KIND_OF[word] for word in self.said} & {KIND_OF[word] for word in other.said}:
            ours, theirs = (
                {word for word in said if KIND_OF[word] == kind} for said in (self.said, other.said)
            )
            if not ours & theirs:
                return True
        return False


def strip_words(text: str) -> Worded:
    """Return a number or formula without the units and other words beside it, if they do not change it.

    >>> strip_words("exactly 5 km/h").bare, strip_words("negative 5").bare, strip_words("3 eighths").bare
    ('5', '-5', '3 eighths')
    """
    text, said = text.strip(), set()
    negative = False
    while lead := LEADS.match(text):
        negative ^= bool(lead["negative"])
        text = text[lead.end() :]
    while True:
        if degrees := DEGREES.search(text):
            text = text[: degrees.start()]
            said.add("degree")
        last = LAST_WORD.search(text)
        if last is None or not last.start() or not _stands_beside(last[2], last[1], text[: last.start()]):
            break
        text = text[: last.start()]
        if entry := _entry(last[2]):
            said.add(entry)
    return Worded(f"-{text}" if negative else text, frozenset(said))


def _stands_beside(word: str, gap: str, before: str) -> bool:
    """Return whether a word after a number or formula says nothing about its value."""
    if word.lower() in CHANGING or word.lower().removesuffix("s") in CHANGING:
        return False
    if len(word) == 1:  # 5 m is a length, 5m and x m are products; km/h is a unit
        return _entry(word) is not None and ("/" in gap or gap != "" and before[-1:] in "0123456789")
    return len(word) >= 3 or word in FILLERS or _entry(word) is not None


def _entry(word: str) -> str | None:
    """Return the canonical form of a word of KINDS, in its singular."""
    for spelling in (word, word.lower(), word.lower().removesuffix("s"), word.lower().removesuffix("es")):
        if spelling in CANONICAL and (len(word) > 2 or spelling == word):
            return CANONICAL[spelling]
    return None


# Clock times and choice letters

CLOCK = re.compile(
    r"(?P<hour>\d{1,2})(?::(?P<minute>[0-5]\d))?(?: ?(?:(?P<half>[ap])\.? ?m\b\.?|o'clock))?", re.IGNORECASE
)
# A letter and what follows it, unless that makes the letter a part of something: (C) + 1, (A) and (B).
LETTERED = re.compile(
    r"(?:\(?(?P<letter>[A-J])\)[.:]?|(?P<bare>[A-J])[.:](?= ))"
    r"(?P<value>(?: +-)?(?! *(?:[-+*/^_=<>!|',;&]|\\(?:cup|cap|cdot|times)|and\b|or\b"
    r"|\(?[A-J]\)|[A-J][.,])).*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ClockTime:
    """A time of day: minutes after twelve, and the half of the day, "am" or "pm", where it is given."""

    minutes: int
    half: str = ""

    def equals(self, other: "ClockTime") -> bool:
        """Return whether both are the same time, unless both name a half of the day and it differs."""
        return self.minutes == other.minutes and (not self.half or not other.half or self.half == other.half)


def read_clock_time(text: str) -> ClockTime | None:
    """Return the time of day that a text is, or None. 19:30 is 7:30 p.m.; a number alone is not a time."""
    match = CLOCK.fullmatch(text.strip())
    if match is None or match[0].strip().isdigit() or int(match["hour"]) > 23:
        return None
    hour, half = int(match["hour"]), f"{(match['half'] or '').lower()}m".removeprefix("m")
    if hour > 12:
        half = "pm"
    return ClockTime(hour % 12 * 60 + int(match["minute"] or 0), half)


def split_choice(text: str) -> tuple[str, str] | None:
    """Return the letter of a choice and the value after it, if it is given: "(C) 12" or "C)", not "C".

    >>> split_choice("(C) 12"), split_choice("C)"), split_choice("C")
    (('C', '12'), ('C', ''), None)
    """
    match = LETTERED.fullmatch(text.strip())
    if match is None:
        return None
    return match["letter"] or match["bare"], match["value"].strip()
