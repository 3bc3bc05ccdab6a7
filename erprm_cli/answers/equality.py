r"""Whether two answers are equal, as far as their text tells: canonical forms, numbers, times and choices.

>>> canonical_form("1,000.0") == canonical_form(r"\$1000") == "1000"
True
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from erprm_cli.answers.formulas import read_formula
from erprm_cli.answers.numerals import Number, read_numeral
from erprm_cli.answers.spelling import respell
from erprm_cli.answers.words import (
    ClockTime,
    Worded,
    read_clock_time,
    read_number_words,
    split_choice,
    strip_words,
)

MAX_LENGTH = 512  # characters; the longest answer in MATH has fewer than half of that

TEXT = re.compile(r"\\text\{([^{}]*)\}")
SHORT_SCRIPT = re.compile(r"([_^])\{(\w)\}")
SPACE = re.compile(r"(?<!\d) | (?!\d)")  # "1 2" is not "12"
CHOICE = re.compile(r"\(([A-Z])\)")
LETTERS = re.compile(r"[A-Za-z][A-Za-z,;.' -]*")  # east, I and III
LOWER_WORD = re.compile(r"[A-Za-z][a-z]{2,}|\b[Nn]o\b")
LETTER = re.compile(r"[A-J]")
CURRENCIES = {r"\$": "dollar", "€": "euro", "£": "pound"}
BRACKETS = re.compile(r"[(\[]|\\\{")  # in which a comma separates
THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
ASSIGNED = re.compile(r"[A-Za-z]=(.+)")

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What is cheap to find out about an answer."""

    text: str  # without fonts and spaces
    form: str  # canonical
    formula: str  # what `read_formula` is to read
    worded: Worded  # the answer without the words beside it
    number: Number | None = None  # if it is one
    is_words: bool = False  # such as "east"
    time: ClockTime | None = None
    choice: tuple[str, str] | None = None  # a letter and the value beside it


def canonical_form(prediction: str) -> str:
    r"""Return a normal form that is the same for equal numbers and for LaTeX spellings of the same answer.

    >>> [canonical_form(answer) for answer in (r"\dfrac{1}{4}", "0.25", r"\left( 3, \pi \right)")]
    ['1/4', '1/4', '(3,\\pi)']
    """
    return _parse(prediction).form if len(prediction) <= MAX_LENGTH else prediction.strip()


def parse_number(text: str) -> Number | None:
    r"""Return the exact number that `text` stands for, or None if it is not a number in digits.

    It reads 1,000 and 12.50, \frac12, 1/2 and 1 1/2, 3e5 and 3 \times 10^5, 15\%, $5, 5 \text{ cm}.

    >>> parse_number(r"-\frac12").value == parse_number("-0.5").value
    True
    >>> parse_number("1,2") is None  # a pair, not a thousand
    True
    """
    if len(text) > MAX_LENGTH:
        return None
    worded = _worded(respell(text))
    return None if worded.senses else read_numeral(worded.bare)


@lru_cache(maxsize=1 << 14)
def _parse(answer: str) -> ParsedAnswer:
    spelled = respell(answer)
    text = SHORT_SCRIPT.sub(r"\1\2", TEXT.sub(r"\1", spelled)).strip()
    worded = _worded(spelled)
    worded = replace(worded, said=worded.said | _currencies(answer))
    time = read_clock_time(text)
    number = None if time else read_numeral(worded.bare) or _number_in_words(worded.bare)
    if number is not None:
        form = f"{number.value}{'%' * number.percent}{' '.join(worded.senses)}"
        formula = re.sub("[, ]", "", worded.bare) if number.places else form
        return ParsedAnswer(SPACE.sub("", text), form, formula, worded, number)
    formula = worded.bare if BRACKETS.search(worded.bare) else THOUSANDS.sub(_without_commas, worded.bare)
    choice = split_choice(text)
    text = CHOICE.sub(r"\1", text)
    words = (
        len(text) > 1
        and bool(LETTERS.fullmatch(text))
        and bool(LOWER_WORD.search(text) or "\\text" in spelled)
    )
    form = SPACE.sub("", text.lower() if words and LOWER_WORD.search(text) else text)
    return ParsedAnswer(form, form, formula, worded, None, words, time, choice)


def _worded(spelled: str) -> Worded:
    return strip_words(re.sub(" +", " ", TEXT.sub(r" \1 ", spelled)))


def _currencies(answer: str) -> frozenset[str]:
    """Return the words for the currency signs in an answer; a pair of dollars encloses a formula."""
    found = {word for sign, word in CURRENCIES.items() if sign in answer}
    return frozenset(found | ({"dollar"} if answer.count("$") == 1 else set()))


def _number_in_words(text: str) -> Number | None:
    value = read_number_words(text.removeprefix("-"))
    return None if value is None else Number(-value if text.startswith("-") else value)


def _without_commas(number: re.Match[str]) -> str:
    return number[0].replace(",", "")


def compare_cheaply(gold: str, prediction: str) -> bool | Pair:
    """Return whether two answers are equal, or the two formulas that have to be evaluated to tell."""
    known, tried = _parse(gold), _parse(prediction)
    if known.choice is None and tried.choice is None:
        return _compare(known, tried)
    letters, values = zip(*map(_letter_and_value, (known, tried)), strict=True)
    if all(letters) and letters[0] != letters[1]:
        return False
    if all(values):
        return _compare(*map(_parse, values))
    return all(letters)


def _letter_and_value(answer: ParsedAnswer) -> tuple[str, str]:
    """Return the letter of a choice and its value, each empty if it is not given."""
    if answer.choice is not None:
        return answer.choice
    return (answer.form, "") if LETTER.fullmatch(answer.form) else ("", answer.formula)


def _compare(known: ParsedAnswer, tried: ParsedAnswer) -> bool | Pair:
    if known.worded.contradicts(tried.worded):
        return False
    if known.form == tried.form or known.text == tried.text:
        return bool(known.form)
    known, tried = _without_name(known, tried), _without_name(tried, known)
    times = [answer.time or _on_the_hour(answer) for answer in (known, tried)]
    if known.time or tried.time:
        return bool(times[0] and times[1] and times[0].equals(times[1]))
    if known.number and tried.number:
        return known.number.equals(tried.number)
    if known.is_words and tried.is_words:
        return False
    formulas = read_formula(known.formula), read_formula(tried.formula)
    if None in formulas:
        return False
    return formulas[0] == formulas[1] or (known.formula, tried.formula)


def _without_name(answer: ParsedAnswer, other: ParsedAnswer) -> ParsedAnswer:
    """Return 5 for x = 5 if the other answer is a number, which saves an evaluation."""
    assigned = ASSIGNED.fullmatch(answer.form) if other.number else None
    return _parse(assigned[1]) if assigned else answer


def _on_the_hour(answer: ParsedAnswer) -> ClockTime | None:
    """Return the time of day that a whole number may be."""
    if answer.number is None or answer.number.value not in range(1, 13):
        return None
    return ClockTime(int(answer.number.value) % 12 * 60)
