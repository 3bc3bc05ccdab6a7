from fractions import Fraction

import pytest

from erprm_cli.answers.words import (
    ClockTime,
    Worded,
    read_clock_time,
    read_number_words,
    split_choice,
    strip_words,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("zero", 0),
        ("Twelve", 12),
        ("twenty-one", 21),
        ("one hundred and five", 105),
        ("two thousand three hundred", 2300),
        ("one million two hundred thousand and one", 1_200_001),
        ("1.5 million", 1_500_000),
        ("2 dozen", 24),
        ("half", Fraction(1, 2)),
        ("one quarter", Fraction(1, 4)),
        ("two thirds", Fraction(2, 3)),
        ("3 eighths", Fraction(3, 8)),
        ("two three", None),
        ("twenty thirty", None),
        ("three 4", None),
        ("apples", None),
        ("", None),
    ],
)
def test_number_words_are_read(text: str, value: Fraction | int | None) -> None:
    assert read_number_words(text) == value


@pytest.mark.parametrize(
    ("text", "bare", "said"),
    [
        ("5 km/h", "5", {"km", "h"}),
        ("72 clips, altogether", "72", set()),
        ("exactly 5", "5", set()),
        ("minus 5 degrees", "-5", {"degree"}),
        ("5% increase", "5%", {"increase"}),
        ("12 square feet", "12", {"ft"}),
        (r"12\pi cm^2", r"12\pi", {"cm"}),
        ("5 or 6", "5 or 6", set()),
        ("at least 5", "at least 5", set()),
        ("3 eighths", "3 eighths", set()),
        ("2 theta", "2 theta", set()),
        ("5m", "5m", set()),
        ("east", "east", set()),
    ],
)
def test_words_that_do_not_change_a_number_are_stripped(text: str, bare: str, said: set[str]) -> None:
    found = strip_words(text)
    assert found == Worded(bare, frozenset(said))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("7:30", ClockTime(450)),
        ("7:30 PM", ClockTime(450, "pm")),
        ("3 a.m.", ClockTime(180, "am")),
        ("12 am", ClockTime(0, "am")),
        ("19:05", ClockTime(425, "pm")),
        ("3 o'clock", ClockTime(180)),
        ("3", None),
        ("7:75", None),
        ("25:00", None),
        ("3:4", None),
    ],
)
def test_clock_times_are_read(text: str, time: ClockTime | None) -> None:
    assert read_clock_time(text) == time


def test_a_choice_is_a_letter_with_or_without_a_value() -> None:
    assert split_choice("(C) 12") == ("C", "12")
    assert split_choice("C. x + 1") == ("C", "x + 1")
    assert split_choice("(C) -5") == ("C", "-5")
    assert split_choice("C)") == split_choice("(C)") == ("C", "")
    for formula in ("C", "(C) + 1", "(A)*2", r"(A) \cup (B)", "(K) 3", "(c) 3"):
        assert split_choice(formula) is None, formula
