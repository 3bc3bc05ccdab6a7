"""The value of a formula at given values of its variables, to a precision that suits the numbers in it.

Whole numbers and fractions are exact (`Fraction`); everything else is computed by mpmath. Precision follows
size: a formula whose numbers have d digits is computed to 2 d + 50 digits, so that 2^{2005} + 1 and 2^{2005}
stay apart, and so do 1/2004! and 1/2006!.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from mpmath import mp

from erprm_cli.answers.formulas import Node
from erprm_cli.answers.numerals import exact_decimal

SPARE_DIGITS = 50  # beyond twice the digits of the largest number
MAX_DIGITS = 10_000  # of any number on the way
UNKNOWN_BASE = Fraction(1_234_577, 997_001)  # the natural logarithm of the base of \log, which may be 10 or e

Value: TypeAlias = Any  # Fraction, mpf or mpc
Point = dict[str, Fraction]  # values of the variables


class TooLargeError(Exception):
    """Some number has more than MAX_DIGITS digits."""


class NoValueError(Exception):
    """The formula has no value: it is not a scalar, or divides by zero here."""


def variables(tree: Node) -> Iterator[str]:
    """Yield the names of a formula's variables, with repetitions."""
    if tree.op == "variable":
        yield str(tree.value)
    for part in tree.args:
        yield from variables(part)


def points(names: Sequence[str], signs: Sequence[int]) -> list[Point]:
    """Return a point per sign, always the same for the same names: first around 1, then farther from 0."""
    return [
        {
            name: sign
            * (1 + index // 3)
            * Fraction(random.Random(f"{name} {index}").randrange(500, 2000), 997)
            for name in names
        }
        for index, sign in enumerate(signs)
    ]


class Evaluator:
    """Computes values and knows the digits of the largest number met so far."""

    def __init__(self) -> None:
        self.digits = 0

    def values(self, trees: Sequence[Node], point: Point) -> list[Value]:
        """Return the values of all trees at a point, computed to a precision that suits the largest of them.

        Raises NoValueError and TooLargeError.
        """
        while True:
            mp.dps = 2 * self.digits + SPARE_DIGITS
            known = self.digits
            found = [self.value(tree, point) for tree in trees]
            if self.digits <= known:
                return found

    def value(self, tree: Node, point: Point) -> Value:
        """Return the value of one tree at the present precision."""
        if tree.op == "variable":
            return _real(point[str(tree.value)])
        if tree.op == "number":
            return self._sized(tree.value)
        if tree.op == "decimal":
            return self._sized(exact_decimal(str(tree.value)))
        if tree.op in CONSTANTS:
            return CONSTANTS[tree.op]()
        if tree.op == "function":
            operation = FUNCTIONS.get(str(tree.value))
        else:
            operation = OPERATIONS.get(tree.op)
        if operation is None:
            raise NoValueError
        arguments = [self.value(part, point) for part in tree.args]
        if tree.op != "negative" and any(isinstance(part, mp.mpf) and mp.isinf(part) for part in arguments):
            raise NoValueError  # infinity is an end of an interval, not a number
        try:
            return self._sized(operation(*arguments))
        except (ZeroDivisionError, ValueError, TypeError, OverflowError):
            raise NoValueError from None

    def _sized(self, value: Value) -> Value:
        self.digits = max(self.digits, _num_digits(value))
        if self.digits > MAX_DIGITS:
            raise TooLargeError
        return value


def agree(one: Value, other: Value) -> bool:
    """Return whether two values are the same: exactly, or to nine tenths of the digits computed."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    one, other = _real(one), _real(other)
    if one == other:
        return True
    if mp.isinf(one) or mp.isinf(other):
        return False
    return bool(abs(one - other) <= _negligible() * max(abs(one), abs(other)))


def is_real(value: Value) -> bool:
    """Return whether a value is real, up to rounding."""
    return not isinstance(value, mp.mpc) or abs(value.imag) <= _negligible() * abs(value)


def is_finite(value: Value) -> bool:
    """Return whether a value is a real number, not infinite."""
    return is_real(value) and not mp.isinf(_real(value))


def as_fraction(value: Value) -> Fraction:
    """Return a real value, rounded far beyond the places of any decimal in an answer."""
    return value if isinstance(value, Fraction) else Fraction(mp.nstr(mp.re(value), SPARE_DIGITS))


def _negligible() -> Value:
    return mp.mpf(10) ** -(mp.dps * 9 // 10)


def _real(value: Value) -> Value:
    return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _num_digits(value: Value) -> int:
    """Return the number of digits of a number's integer part or of its inverse's, whichever is longer."""
    if isinstance(value, Fraction):
        return int(max(value.numerator.bit_length(), value.denominator.bit_length()) * 0.302)
    if not value or mp.isinf(value) or mp.isnan(value):
        return 0
    return int(abs(mp.mag(value)) * 0.302)


def _sum(*terms: Value) -> Value:
    if all(isinstance(term, Fraction) for term in terms):
        return sum(terms, Fraction(0))
    numbers = [_real(term) for term in terms]
    total = mp.fsum(numbers)
    cancelled = abs(total) <= _negligible() * max(map(abs, numbers))
    return Fraction(0) if cancelled else total


def _product(one: Value, other: Value) -> Value:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one * other
    return _real(one) * _real(other)


def _quotient(above: Value, below: Value) -> Value:
    if isinstance(above, Fraction) and isinstance(below, Fraction):
        return above / below
    return _real(above) / _real(below)


def _power(base: Value, exponent: Value) -> Value:
    whole = isinstance(exponent, Fraction) and exponent.denominator == 1
    if whole and isinstance(base, Fraction):
        if abs(exponent) * max(_num_digits(base), abs(base) not in (0, 1)) > 4 * MAX_DIGITS:
            raise TooLargeError
        return base ** int(exponent)
    base = _real(base)
    if abs(exponent) * (abs(mp.mag(base)) if base else 0) > 8 * MAX_DIGITS:
        raise TooLargeError
    if whole:
        return base ** int(exponent)
    return mp.power(base, _real(exponent))


def _root(degree: Value, number: Value) -> Value:
    if not isinstance(degree, Fraction) or degree.denominator != 1 or degree < 2:
        return _power(number, _quotient(Fraction(1), degree))
    number = _real(number)
    if is_real(number) and mp.re(number) < 0 and degree % 2:
        return -mp.root(-number, int(degree))  # the real root
    return mp.root(number, int(degree))


def _factorial(number: Value) -> Value:
    if isinstance(number, Fraction) and number.denominator == 1:
        if number < 0:
            raise ValueError
        if number > MAX_DIGITS:
            raise TooLargeError
        return Fraction(math.factorial(int(number)))
    return mp.gamma(_real(number) + 1)


def _binomial(total: Value, chosen: Value) -> Value:
    if all(isinstance(part, Fraction) and part.denominator == 1 for part in (total, chosen)):
        if not 0 <= chosen <= total or total > MAX_DIGITS:
            raise TooLargeError if total > MAX_DIGITS else ValueError
        return Fraction(math.comb(int(total), int(chosen)))
    return mp.binomial(_real(total), _real(chosen))


def _rounded(function: Callable[[Value], Value]) -> Callable[[Value], Value]:
    return lambda number: Fraction(int(function(_real(number))))


def _whole_only(function: Callable[..., int]) -> Callable[..., Value]:
    def applied(*numbers: Value) -> Value:
        if not all(isinstance(number, Fraction) and number.denominator == 1 for number in numbers):
            raise ValueError
        return Fraction(function(*map(int, numbers)))

    return applied


def _chosen(choose: Callable[..., Value]) -> Callable[..., Value]:
    def applied(*numbers: Value) -> Value:
        if len(numbers) < 2:
            raise ValueError
        return choose(numbers, key=_real)

    return applied


def _log_of_unknown_base(number: Value) -> Value:
    return _real(FUNCTIONS["ln"](number)) / _real(UNKNOWN_BASE)


def _absolute(number: Value) -> Value:
    return abs(number)


CONSTANTS: dict[str, Callable[[], Value]] = {
    "pi": lambda: +mp.pi,
    "e": lambda: +mp.e,
    "imaginary unit": lambda: mp.mpc(0, 1),
    "infinity": lambda: mp.inf,
}
OPERATIONS: dict[str, Callable[..., Value]] = {
    "sum": _sum,
    "negative": lambda number: -number,
    "product": _product,
    "quotient": _quotient,
    "power": _power,
    "root": _root,
    "factorial": _factorial,
    "binomial": _binomial,
    "absolute": _absolute,
    "floor": _rounded(mp.floor),
    "ceiling": _rounded(mp.ceil),
    "logarithm": lambda base, number: mp.log(_real(number)) / mp.log(_real(base)),
}
TRIGONOMETRIC = [
    f"{ratio}{kind}" for ratio in ("sin", "cos", "tan", "cot", "sec", "csc") for kind in ("", "h")
]
FUNCTIONS: dict[str, Callable[..., Value]] = {
    "lg": lambda number: mp.log(_real(number)) / mp.log(10),
    "log": _log_of_unknown_base,
    "exp": lambda number: mp.exp(_real(number)),
    "sgn": lambda number: Fraction((number > 0) - (number < 0)),
    "gcd": _whole_only(math.gcd),
    "lcm": _whole_only(math.lcm),
    "max": _chosen(max),
    "min": _chosen(min),
}


def _of_real(function: Callable[[Value], Value]) -> Callable[[Value], Value]:
    def applied(number: Value) -> Value:
        number = _real(number)
        value = function(number)
        return Fraction(0) if abs(value) <= _negligible() * abs(number) else value  # sin pi

    return applied


FUNCTIONS |= {name: _of_real(getattr(mp, name)) for name in TRIGONOMETRIC} | {"ln": _of_real(mp.log)}
FUNCTIONS |= {f"arc{name}": _of_real(getattr(mp, f"a{name}")) for name in TRIGONOMETRIC}
