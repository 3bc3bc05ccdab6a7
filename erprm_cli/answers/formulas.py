r"""Reads a formula, in LaTeX or in plain spelling, into a tree: all of it or nothing.

A reader that skips what it does not know would find `4` in `4\sqrt(2)` and `f(x)=0` in `\forall x>0, f(x)=0`.
This one returns None unless every character has a meaning.

>>> read_formula(r"\frac{\pi}{2}") == read_formula("pi/2")
True
>>> read_formula(r"1, 2, \ldots, n") is None
True
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from erprm_cli.answers.formula_tokens import (
    CONSTANTS,
    FUNCTIONS,
    GREEK,
    NotUnderstoodError,
    Token,
    split_tokens,
)
from erprm_cli.answers.numerals import exact_decimal

MAX_NESTING = 24  # levels of brackets


@dataclass(frozen=True, slots=True)
class Node:
    """A formula: an operation, what it is applied to, and a name or an exact number where it has one."""

    op: str
    args: tuple["Node", ...] = ()
    value: str | Fraction = ""


RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\lt": "<", r"\gt": ">", r"\le": "<=", r"\ge": ">=", "<=": "<=",
    ">=": ">=", r"\ne": "!=", r"\neq": "!=", "!=": "!=", r"\in": "in", "==": "=", r"\approx": "~",
}  # fmt: skip
SET_OPERATIONS = {r"\cup": "union", r"\cap": "intersection", r"\setminus": "difference"}
TIMES = frozenset(("*", r"\cdot", r"\times"))
DIVIDED = frozenset(("/", r"\div"))
SIGNS = {"+": "+", "-": "-", r"\pm": "pm", r"\mp": "mp"}
CLOSING = {
    "(": ")]",
    "[": ")]",
    r"\{": (r"\}",),
    "{": "}",
    r"\lfloor": (r"\rfloor",),
    r"\lceil": (r"\rceil",),
}
ROUNDING = {r"\lfloor": "floor", r"\lceil": "ceiling"}
SEPARATORS = frozenset((",", ";", "or", "and"))
CALLED = re.compile(r"[fghFGH]'*")  # f(x) is a value of f; a(x + 1) is a product


@lru_cache(maxsize=1 << 14)
def read_formula(text: str) -> Node | None:
    r"""Return the tree of a formula, or None if any part of it is not understood.

    Implicit products (2xy), mixed numbers (1\frac{1}{2}), lists, tuples, intervals, sets, unions, chains of
    relations, matrices, \pm and the usual functions are read. `a/bc` is (a/b)c. Capital letters side by side
    are a name: AB is not BA. A single letter other than e and i is a variable.
    """
    try:
        return _Reader(split_tokens(text)).whole()
    except NotUnderstoodError:
        return None


class _Reader:
    """A recursive-descent reader of a list of tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = [*tokens, ("end", "")]
        self._at = 0
        self._depth = 0
        self._inside_bars = False

    def whole(self) -> Node:
        tree = self._list()
        if self._kind != "end":
            raise NotUnderstoodError
        return tree

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _text(self) -> str:
        return self._tokens[self._at][1]

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _take(self, *texts: str) -> bool:
        if self._text in texts and self._kind != "end":
            self._at += 1
            return True
        return False

    def _expect(self, *texts: str) -> str:
        if self._kind == "end" or self._text not in texts:
            raise NotUnderstoodError
        return self._next()

    def _list(self) -> Node:
        items, joints = [self._relation()], set()
        while self._text in SEPARATORS and self._kind != "end":
            joints.add(self._next())
            if self._kind == "joint":  # a, b, and c
                joints = {self._next()}
            items.append(self._relation())
        return items[0] if len(items) == 1 else Node("list", tuple(items), "or" if joints == {"or"} else "")

    def _relation(self) -> Node:
        sides, signs = [self._set()], []
        while self._text in RELATIONS and self._kind != "end":
            signs.append(RELATIONS[self._next()])
            sides.append(self._set())
        return Node("relation", tuple(sides), " ".join(signs)) if signs else sides[0]

    def _set(self) -> Node:
        left = self._sum()
        while self._text in SET_OPERATIONS:
            left = Node(SET_OPERATIONS[self._next()], (left, self._sum()))
        return left

    def _sum(self) -> Node:
        terms: list[Node] = []
        while not terms or self._text in SIGNS and self._kind != "end":
            sign = SIGNS[self._next()] if self._text in SIGNS and self._kind != "end" else "+"
            term = self._product()
            terms.append(term if sign == "+" else Node({"-": "negative"}.get(sign, sign), (term,)))
        return terms[0] if len(terms) == 1 else Node("sum", tuple(terms))

    def _product(self) -> Node:
        left = self._signed_factor()
        while True:
            if self._take(*TIMES):
                left = Node("product", (left, self._signed_factor()))
            elif self._take(*DIVIDED):
                left = Node("quotient", (left, self._signed_factor()))
            elif self._starts_factor():
                right = self._power()
                mixed = _is_whole(left) and right.op == "quotient" and all(map(_is_whole, right.args))
                left = Node("sum" if mixed else "product", (left, right))
            else:
                return left

    def _signed_factor(self) -> Node:
        if self._take("-"):
            return Node("negative", (self._signed_factor(),))
        return self._power()

    def _starts_factor(self) -> bool:
        """Return whether a factor follows without a sign; a number does not: `x2` has no clear meaning."""
        if self._kind in ("name", "cells"):
            return True
        if self._kind == "command":
            return self._text in PREFIXES or self._text[1:] in FUNCTIONS | GREEK | CONSTANTS.keys()
        return self._text in ("(", "[", "{") or self._text == "|" and not self._inside_bars

    def _power(self) -> Node:
        base = self._atom()
        while True:
            if self._take("!"):
                base = Node("factorial", (base,))
            elif self._take("^"):
                exponent = self._argument()
                if self._take("^"):  # right to left
                    exponent = Node("power", (exponent, self._argument()))
                base = Node("power", (base, exponent))
            else:
                return base

    def _argument(self) -> Node:
        """Return what a command or a power is applied to: a group in braces or a single sign."""
        if self._take("{"):
            return self._group("{")
        if self._take("-"):
            return Node("negative", (self._argument(),))
        return self._atom()

    def _atom(self) -> Node:
        kind, text = self._kind, self._next()
        if kind == "number":
            return self._subscripted(_number(text))
        if kind == "name":
            return self._variable(text)
        if kind == "cells":
            return _matrix(text)
        if kind == "command" and text in PREFIXES:
            return PREFIXES[text](self)
        if kind == "command" and text[1:] in CONSTANTS:
            return Node(CONSTANTS[text[1:]])
        if kind == "command" and text[1:] in GREEK:
            return self._subscripted(Node("variable", value=text[1:]))
        if kind == "command" and text[1:] in FUNCTIONS:
            return self._function(text[1:])
        if text in CLOSING:
            return self._group(text)
        if text == "|" and not self._inside_bars:
            self._inside_bars = True
            inside = self._sum()
            self._expect("|")
            self._inside_bars = False
            return Node("absolute", (inside,))
        raise NotUnderstoodError

    def _group(self, opening: str) -> Node:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise NotUnderstoodError
        bars, self._inside_bars = self._inside_bars, opening == r"\{"  # { x | x > 0 }
        if opening == r"\{" and self._take(r"\}"):
            inside, closing = Node("empty"), ""
        else:
            inside = self._list()
            if opening == r"\{" and self._take("|", ":", r"\mid"):
                condition = self._list()
                inside = Node("such that", (inside, condition))
            closing = self._expect(*CLOSING[opening])
        self._inside_bars = bars
        self._depth -= 1
        if opening in ROUNDING:
            return Node(ROUNDING[opening], (inside,))
        if opening == r"\{" or inside.op == "list" and opening == "{":
            elements = inside.args if inside.op == "list" else (inside,)
            return inside if inside.op in ("empty", "such that") else Node("set", elements)
        if inside.op == "list":
            return Node("tuple", inside.args, opening + closing)
        if opening + closing in ("(]", "[)"):
            raise NotUnderstoodError
        return inside

    def _variable(self, name: str) -> Node:
        while self._take("'"):
            name += "'"
        if name in ("e", "i"):
            return Node({"e": "e", "i": "imaginary unit"}[name])
        if CALLED.fullmatch(name) and self._text == "(":
            self._next()
            return Node("variable", value=f"{name}({self._group('(')})")
        return self._subscripted(Node("variable", value=name))

    def _subscripted(self, node: Node) -> Node:
        """Return x_1 and 52_8 as names of their own; a number in a base equals only itself."""
        if not self._take("_"):
            return node
        return Node("variable", value=f"{node.value}_{self._argument()}")

    def _function(self, name: str) -> Node:
        base = self._argument() if self._take("_") else None
        power = self._argument() if self._take("^") else None
        if power == Node("negative", (Node("number", value=Fraction(1)),)):
            name, power = f"arc{name}", None
            if name not in FUNCTIONS:
                raise NotUnderstoodError
        if self._take("("):
            inside = self._group("(")
        elif self._take("{"):
            inside = self._group("{")
        else:
            inside = self._power()
            while self._starts_factor() and not (self._kind == "command" and self._text[1:] in FUNCTIONS):
                inside = Node("product", (inside, self._power()))
        arguments = inside.args if inside.op in ("list", "tuple") else (inside,)
        if base is not None:
            if name != "log":
                raise NotUnderstoodError
            found = Node("logarithm", (base, *arguments))
        else:
            found = Node("function", arguments, name)
        return found if power is None else Node("power", (found, power))

    def _fraction(self) -> Node:
        return Node("quotient", (self._argument(), self._argument()))

    def _root(self) -> Node:
        degree = self._group_of("[") if self._take("[") else Node("number", value=Fraction(2))
        return Node("root", (degree, self._argument()))

    def _group_of(self, opening: str) -> Node:
        inside = self._group(opening)
        if inside.op in ("list", "tuple"):
            raise NotUnderstoodError
        return inside

    def _cube_root(self) -> Node:
        return Node("root", (Node("number", value=Fraction(3)), self._argument()))

    def _binomial(self) -> Node:
        return Node("binomial", (self._argument(), self._argument()))

    def _blackboard(self) -> Node:
        self._expect("{")
        name = self._expect("R", "Z", "N", "Q", "C")
        self._expect("}")
        return Node("reals") if name == "R" else Node("variable", value=f"all of {name}")

    def _operator(self) -> Node:
        self._expect("{")
        name = self._next()
        self._expect("}")
        if name.lstrip("\\") not in FUNCTIONS:
            raise NotUnderstoodError
        return self._function(name.lstrip("\\"))


PREFIXES: dict[str, Callable[[_Reader], Node]] = {
    r"\frac": _Reader._fraction,
    r"\sqrt": _Reader._root,
    r"\cbrt": _Reader._cube_root,
    r"\binom": _Reader._binomial,
    r"\mathbb": _Reader._blackboard,
    r"\operatorname": _Reader._operator,
    r"\lfloor": lambda reader: reader._group(r"\lfloor"),
    r"\lceil": lambda reader: reader._group(r"\lceil"),
}


def _is_whole(node: Node) -> bool:
    return isinstance(node.value, Fraction) and node.value.denominator == 1


def _number(text: str) -> Node:
    if "." in text and "overline" not in text:
        return Node("decimal", value=text)
    return Node("number", value=exact_decimal(text))


def _matrix(cells: str) -> Node:
    rows = [row.split("&") for row in re.split(r"\\\\", cells.strip().removesuffix(r"\\"))]
    if len({len(row) for row in rows}) != 1 or r"\begin" in cells:
        raise NotUnderstoodError
    found = [_Reader(split_tokens(cell)).whole() for row in rows for cell in row]
    return Node("matrix", tuple(found), f"{len(rows)} x {len(rows[0])}")
