r"""Whether two formulas are equal, decided from their values: runs in the worker processes.

Two scalars are equal if their values agree at several points, to more digits than their numbers have. The
variables are positive there, because in an answer they mostly are: \sqrt{1/n} equals 1/\sqrt{n}. Only beside
an absolute value they are negative too, so |x| is not x. The sides of equations and inequalities are compared
up to a factor, lists in any order, tuples in order, and intervals by their ends.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeVar

from erprm_cli.answers.formula_values import (
    Evaluator,
    NoValueError,
    Value,
    agree,
    as_fraction,
    is_finite,
    points,
    variables,
)
from erprm_cli.answers.formulas import Node, read_formula
from erprm_cli.answers.intervals import FLIPPED, Interval, read_intervals
from erprm_cli.answers.numerals import Number

SIGNS = (1, 1, 1)  # of the points at which formulas are compared
STEP_SIGNS = (1,) * 20 + (-1,) * 4  # for formulas that are not smooth
STEPS = frozenset(("absolute", "floor", "ceiling", "sgn", "max", "min"))

T = TypeVar("T")


def formulas_equal(gold: str, prediction: str) -> bool:
    """Return whether two answers that `read_formula` understands are equal. Raises TooLargeError."""
    known, tried = read_formula(gold), read_formula(prediction)
    return known is not None and tried is not None and equal(known, tried)


def equal(known: Node, tried: Node) -> bool:
    """Return whether two formulas are equal. Raises TooLargeError."""
    if known == tried:
        return True
    known, tried = (_same_alternative(_expand_signs(tree)) for tree in (known, tried))
    if _is_equation(known) != _is_equation(tried):  # x = 5 and 5
        value = _named_value(known if _is_equation(known) else tried)
        other = tried if _is_equation(known) else known
        return value is not None and equal(value, other)
    if {known.op, tried.op} & REGIONS:
        if not _same_variables(known, tried):
            return False
        ours, theirs = read_intervals(known), read_intervals(tried)
        if ours is not None and theirs is not None:
            return _same_in_any_order(ours, theirs, _same_interval)
    if known.op == tried.op == "relation":
        return _same_relation(known, tried)
    if {known.op, tried.op} & COLLECTIONS:
        return _same_collection(known, tried)
    if known.op == tried.op and known.op in STRUCTURES:
        same = known.value == tried.value and len(known.args) == len(tried.args)
        return same and all(map(equal, known.args, tried.args))
    return _same_value(known, tried)


def _same_variables(known: Node, tried: Node) -> bool:
    """Return whether two inequalities are about the same variables; an interval does not name its own."""
    named = [{*variables(tree)} for tree in (known, tried) if tree.op in ("relation", "list")]
    return len(named) < 2 or named[0] == named[1]


REGIONS = frozenset(("relation", "union", "such that", "reals"))
COLLECTIONS = frozenset(("list", "tuple", "set", "matrix", "empty"))
STRUCTURES = REGIONS | {"intersection", "difference"}


# Scalars


def _same_value(known: Node, tried: Node) -> bool:
    names = sorted({*variables(known), *variables(tried)})
    if not names:
        return _same_constant(known, tried)
    signs = STEP_SIGNS if _has_steps(known) or _has_steps(tried) else SIGNS
    found = [_values(known, tried, point) for point in points(names, signs)]
    defined = [values for values in found if values is not None]
    return bool(defined) and all(agree(*values) for values in defined)


def _has_steps(tree: Node) -> bool:
    return tree.op in STEPS or tree.value in STEPS or any(map(_has_steps, tree.args))


def _same_constant(known: Node, tried: Node) -> bool:
    found = _values(known, tried, {})
    if found is None:
        return False
    if agree(*found):
        return True
    places = max(_places(known), _places(tried))
    if not places or not all(is_finite(value) for value in found):
        return False
    one, other = (Number(as_fraction(value), places) for value in found)
    return one.is_close(other)


def _values(known: Node, tried: Node, point: dict[str, Fraction]) -> list[Value] | None:
    try:
        return Evaluator().values([known, tried], point)
    except NoValueError:
        return None


def _places(tree: Node) -> int:
    """Return the decimal places of a decimal, 0 for any other formula."""
    if tree.op == "negative":
        return _places(tree.args[0])
    return len(str(tree.value).partition(".")[2]) if tree.op == "decimal" else 0


def _same_interval(one: Interval, other: Interval) -> bool:
    if (one.start_closed, one.end_closed) != (other.start_closed, other.end_closed):
        return False
    return equal(one.start, other.start) and equal(one.end, other.end)


# Relations


def _is_equation(tree: Node) -> bool:
    """Return whether a tree is a chain of equations, or says that a variable is in a finite set."""
    if tree.op != "relation":
        return False
    if tree.value == "in":
        return tree.args[1].op == "set"
    return {*str(tree.value).split()} <= {"=", "~"}


def _is_inequality(tree: Node) -> bool:
    return tree.op == "relation" and not _is_equation(tree)


def _named_value(equation: Node) -> Node | None:
    """Return the value in x = 5, m + n = 256 + 37 = 293 or x = \\sqrt{2} ~ 1.41, or None.

    Any other equation is to be solved, so x + 1 = 5 does not name 5. The sides in between have to be equal to
    the value.
    """
    sides, signs = list(equation.args), str(equation.value).split()
    while len(signs) > 1 and signs[-1] == "~":
        sides.pop()
        signs.pop()
    name, *middle, value = sides
    if not all(equal(side, value) for side in middle):
        return None
    if not _is_name(name) and not equal(name, value):
        return None
    return value


def _is_name(tree: Node) -> bool:
    """Return whether a side names a quantity: m + n, AB or f(2), and a^2 + b^2, but not x^2 or 2x - y."""
    several = len({*variables(tree)}) > 1
    return any(variables(tree)) and not _has_numbers(tree, in_exponents=not several)


def _has_numbers(tree: Node, in_exponents: bool) -> bool:
    parts = tree.args if in_exponents or tree.op != "power" else tree.args[:1]
    return tree.op in ("number", "decimal") or any(_has_numbers(part, in_exponents) for part in parts)


def _same_relation(known: Node, tried: Node) -> bool:
    ours, theirs = str(known.value).split(), str(tried.value).split()
    flipped = [FLIPPED.get(sign) for sign in reversed(theirs)]
    if ours == theirs and all(map(equal, known.args, tried.args)):
        return True
    if ours == flipped and all(map(equal, known.args, reversed(tried.args))):
        return True
    if len(ours) != 1 or len(theirs) != 1 or "in" in ours + theirs:
        return False
    factor = _constant_ratio(_difference(known), _difference(tried))
    return bool(factor) and ours == (theirs if factor > 0 else flipped)


def _difference(relation: Node) -> Node:
    left, right = relation.args
    return Node("sum", (left, Node("negative", (right,))))


def _constant_ratio(one: Node, other: Node) -> Fraction:
    """Return the number by which one formula is a multiple of the other, or 0 if it is not."""
    names = sorted({*variables(one), *variables(other)})
    quotient, ratios = Node("quotient", (one, other)), []
    for point in points(names, SIGNS):
        try:
            ratios += Evaluator().values([quotient], point)
        except NoValueError:
            continue
    constant = bool(names and ratios) and all(agree(ratios[0], ratio) for ratio in ratios)
    return as_fraction(ratios[0]) if constant and is_finite(ratios[0]) else Fraction(0)


# Collections


def _same_collection(known: Node, tried: Node) -> bool:
    if known.op == tried.op:
        if known.value != tried.value and any(map(_is_inequality, known.args)):
            return False  # x < 1 or x > 5, x < 1 and x > 5
        if known.op in ("list", "set"):
            return _same_in_any_order(_elements(known), _elements(tried), equal)
        same = known.value == tried.value or known.op == "tuple" and len(known.args) != 2
        return same and len(known.args) == len(tried.args) and all(map(equal, known.args, tried.args))
    kinds = {known.op, tried.op}
    if kinds == {"list", "tuple"}:  # 1, 2 and (1, 2)
        open_brackets = "()" in (known.value, tried.value)
        same_length = len(known.args) == len(tried.args)
        return open_brackets and same_length and all(map(equal, known.args, tried.args))
    if "set" in kinds and "tuple" not in kinds and "matrix" not in kinds:  # {1, 2} and 1, 2; {1} and 1
        return _same_in_any_order(_elements(known), _elements(tried), equal)
    return False


def _same_alternative(tree: Node) -> Node:
    """Return the first of alternatives that are the same: 15 39/40 or 639/40."""
    alternatives = tree.op == "list" and tree.value == "or"
    return tree.args[0] if alternatives and all(equal(tree.args[0], part) for part in tree.args[1:]) else tree


def _elements(tree: Node) -> list[Node]:
    return list(tree.args) if tree.op in ("list", "set") else [tree]


def _same_in_any_order(ours: Sequence[T], theirs: Sequence[T], same: Callable[[T, T], bool]) -> bool:
    left = list(theirs)
    for one in ours:
        match = next((place for place, other in enumerate(left) if same(one, other)), None)
        if match is None:
            return False
        del left[match]
    return not left


def _expand_signs(tree: Node) -> Node:
    r"""Return a list of two formulas for one with \pm, and the elements of a list or set likewise."""
    if tree.op in ("list", "set"):
        elements = [part for element in tree.args for part in _both_signs(element)]
        return Node(tree.op, tuple(elements), tree.value)
    both = _both_signs(tree)
    return tree if len(both) == 1 else Node("list", tuple(both))


def _both_signs(tree: Node) -> list[Node]:
    if not _has_sign(tree):
        return [tree]
    return [_with_sign(tree, "pm"), _with_sign(tree, "mp")]


def _has_sign(tree: Node) -> bool:
    return tree.op in ("pm", "mp") or any(map(_has_sign, tree.args))


def _with_sign(tree: Node, plus: str) -> Node:
    args = tuple(_with_sign(part, plus) for part in tree.args)
    if tree.op in ("pm", "mp"):
        return args[0] if tree.op == plus else Node("negative", args)
    return Node(tree.op, args, tree.value)
