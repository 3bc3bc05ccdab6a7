from fractions import Fraction

import pytest

from erprm_cli.answers.formula_values import MAX_DIGITS, Evaluator, NoValueError, TooLargeError, Value, agree
from erprm_cli.answers.formulas import read_formula


def value(text: str, **point: Fraction) -> Value:
    tree = read_formula(text)
    assert tree is not None
    return Evaluator().values([tree], point)[0]


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        (r"2^{-3}", Fraction(1, 8)),
        (r"\frac{5!}{0.5}", Fraction(240)),
        (r"\binom{5}{2} - 1", Fraction(9)),
        (r"\lfloor -1.5 \rfloor", Fraction(-2)),
        (r"\gcd(12, 18)", Fraction(6)),
        (r"\max(1, 2, 3)", Fraction(3)),
        (r"0.1\overline{6}", Fraction(1, 6)),
        (r"\sqrt{2} - \sqrt{2}", Fraction(0)),
        (r"\sin \pi", Fraction(0)),
    ],
)
def test_rational_values_are_exact(text: str, exact: Fraction) -> None:
    found = value(text)
    assert isinstance(found, Fraction) and found == exact


def test_other_values_agree_to_more_digits_than_their_numbers_have() -> None:
    assert agree(value(r"\sqrt{50}"), value(r"5\sqrt{2}"))
    assert agree(value(r"\sqrt[3]{-8}"), Fraction(-2))
    assert agree(value(r"e^{i \pi}"), Fraction(-1))
    assert agree(value(r"\sin^2 x + \cos^2 x", x=Fraction(3, 7)), Fraction(1))
    large, larger = r"\sqrt{10^{300}}", r"\sqrt{10^{300} + 1}"
    trees = [read_formula(text) for text in (large, larger)]
    assert not agree(*Evaluator().values([tree for tree in trees if tree], {}))


@pytest.mark.parametrize(
    "text", [r"\frac{1}{0}", r"\frac{1}{\sqrt{2}-\sqrt{2}}", r"\infty + 1", "(-1)!", "(1,2)"]
)
def test_some_formulas_have_no_value(text: str) -> None:
    with pytest.raises(NoValueError):
        value(text)


@pytest.mark.parametrize(
    "text", ["9^{9^9}", f"10^{{{MAX_DIGITS}}} + 1", "100000!", r"\binom{10^9}{7}", "2.5^{10^6}"]
)
def test_numbers_that_are_too_large_are_refused_soon(text: str) -> None:
    with pytest.raises(TooLargeError):
        value(text)
