r"""Sets of real numbers, in any of the ways to write them: intervals, inequalities, unions, conditions.

>>> from erprm_cli.answers.formulas import read_formula
>>> read_intervals(read_formula("0 < x \\le 1")) == read_intervals(read_formula("(0, 1]"))
True
"""

from dataclasses import dataclass

from erprm_cli.answers.formula_values import variables
from erprm_cli.answers.formulas import Node

FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "~": "~", "!=": "!=", "in": "in"}


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval of real numbers; an end is closed if it belongs to it."""

    start: Node
    end: Node
    start_closed: bool
    end_closed: bool


INFINITY = Node("infinity")
MINUS_INFINITY = Node("negative", (INFINITY,))


def read_intervals(tree: Node, variable: Node | None = None) -> list[Interval] | None:
    """Return the intervals of a formula such as (0,1], 0 < x <= 1 or x <= 0 or x > 1; None if it has none."""
    if tree.op == "reals":
        return [Interval(MINUS_INFINITY, INFINITY, False, False)]
    if tree.op == "tuple" and len(tree.args) == 2:
        start, end = tree.args
        return [_interval(start, end, str(tree.value)[0] == "[", str(tree.value)[1] == "]")]
    if tree.op == "set":
        return [Interval(point, point, True, True) for point in tree.args]
    if tree.op == "union" or tree.op == "list" and tree.value == "or":
        parts = [read_intervals(part, variable) for part in tree.args]
        return None if None in parts else [interval for part in parts for interval in part or ()]
    if tree.op == "such that":
        element, condition = tree.args
        if element.op == "relation" and element.value == "in" and element.args[1].op == "reals":
            element = element.args[0]
        return read_intervals(condition, element) if element.op == "variable" else None
    return _solution(tree, variable) if tree.op == "relation" else None


def _interval(start: Node, end: Node, start_closed: bool, end_closed: bool) -> Interval:
    infinite = [any(part.op == "infinity" for part in (node, *node.args)) for node in (start, end)]
    return Interval(start, end, start_closed and not infinite[0], end_closed and not infinite[1])


def _solution(relation: Node, variable: Node | None) -> list[Interval] | None:
    """Return the intervals of an inequality with a variable on its own, such as 0 < x <= 1 or x in [0, 1]."""
    sides, signs = relation.args, str(relation.value).split()
    if signs == ["in"]:
        return read_intervals(sides[1]) if _is_variable(sides[0], variable) else None
    if signs[0] in (">", ">="):
        sides, signs = sides[::-1], [FLIPPED[sign] for sign in reversed(signs)]
    if len(signs) == 1 and not _is_variable(sides[0], variable):
        sides, signs = sides[::-1], [FLIPPED[sign] for sign in signs]
    name = sides[0] if len(signs) == 1 else sides[1]
    ends = [side for side in sides if side is not name]
    if not _is_variable(name, variable) or any(str(name.value) in variables(end) for end in ends):
        return None
    if len(signs) == 1:
        (end,), (sign,) = ends, signs
        if sign == "!=":
            return [
                Interval(MINUS_INFINITY, end, False, False),
                Interval(end, INFINITY, False, False),
            ]
        if sign in ("<", "<="):
            return [Interval(MINUS_INFINITY, end, False, sign == "<=")]
        return [Interval(end, INFINITY, sign == ">=", False)] if sign in (">", ">=") else None
    if len(signs) == 2 and {*signs} <= {"<", "<="}:
        return [Interval(ends[0], ends[1], signs[0] == "<=", signs[1] == "<=")]
    return None


def _is_variable(tree: Node, variable: Node | None) -> bool:
    return tree == variable if variable is not None else tree.op == "variable"
