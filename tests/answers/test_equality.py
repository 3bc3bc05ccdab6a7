from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erprm_cli.answers.equality import canonical_form, parse_number
from erprm_cli.answers.extraction import extract
from tests.answers.answer_data import LATEX


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000", 1000),
        ("1,234,567.5", Fraction("1234567.5")),
        ("10,\\!080", 10080),
        ("10{,}080", 10080),
        ("0.25", Fraction(1, 4)),
        (".5", Fraction(1, 2)),
        (r"\frac12", Fraction(1, 2)),
        (r"\dfrac{3}4", Fraction(3, 4)),
        (r"-\frac{1}{2}", Fraction(-1, 2)),
        (r"\frac{-1}{2}", Fraction(-1, 2)),
        (r"1\frac{4}{5}", Fraction(9, 5)),
        ("1 1/2", Fraction(3, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        ("12.50", Fraction(25, 2)),
        ("-3", -3),
        ("−3", -3),
        ("+3", 3),
        ("0", 0),
        ("-0", 0),
        ("1e3", 1000),
        (r"3 \times 10^{5}", 300_000),
        (r"3\cdot10^{-2}", Fraction(3, 100)),
        ("$18", 18),
        (r"\$18.00", 18),
        ("18 dollars", 18),
        ("5 cm", 5),
        (r"15\mbox{ cm}^2", 15),
        (r"90^\circ", 90),
        ("90°", 90),
        (r"\frac{270}7\text{ degrees}", Fraction(270, 7)),
        ("60 miles per hour", 60),
    ],
)
def test_a_number_is_read_exactly(text: str, value: Fraction | int) -> None:
    found = parse_number(text)
    assert found is not None and found.value == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1,2",
        "(1,234)",
        "1/0",
        "52_8",
        "2x",
        "3i",
        "5 million",
        r"2\pi",
        "1 2",
        "--3",
        "1.2.3",
        "1-2",
        "e3",
    ],
)
def test_what_is_not_a_number_is_not_read_as_one(text: str) -> None:
    assert parse_number(text) is None


def test_equal_spellings_share_a_canonical_form() -> None:
    for forms in (
        ["1000", "1,000", "$1,000$", "1000.0", r"\$1000", "1e3"],
        ["1/4", "0.25", r"\frac14", r"\dfrac{1}{4}", r"\tfrac 14", "25/100"],
        [r"\left( 3, \frac{\pi}{2} \right)", r"(3,\dfrac{\pi}{2})", r"$(3, \frac {\pi} {2})$."],
        [r"\text{Evelyn}", "Evelyn", "evelyn"],
        [r"\text{(C)}", "(C)", "C", r"\textbf{(C)}"],
        [r"11\sqrt2", r"11 \sqrt{2}"],
        [r"(2,\infty)", r"\left(2, \infty\right)"],
    ):
        assert len(set(map(canonical_form, forms))) == 1, forms


def test_different_answers_have_different_canonical_forms() -> None:
    forms = [
        "1",
        "-1",
        "1 2",
        "12",
        "1,2",
        "(1,2)",
        "[1,2]",
        "x",
        "X",
        "xy",
        "15",
        "15%",
        "52_8",
        "52",
        "0",
        "",
    ]
    assert len(set(map(canonical_form, forms))) == len(forms)


@given(LATEX | st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_without_a_fault(text: str) -> None:
    answer = extract(text)
    assert answer is None or (answer and answer.strip() == answer)
    form = canonical_form(text)
    assert canonical_form(form) == form or parse_number(text) is None
    value = parse_number(text)
    if value is not None and not value.percent:
        assert Fraction(form) == value.value
