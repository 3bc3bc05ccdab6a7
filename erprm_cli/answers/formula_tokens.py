r"""The tokens of a formula: numbers, names, commands, signs and matrices.

>>> split_tokens(r"2\sqrt{xy} + pi")[:2]
[('number', '2'), ('command', '\\sqrt')]
"""

import re

FUNCTIONS = frozenset(
    f"{arc}{name}{hyperbolic}" for arc in ("", "arc") for name in ("sin", "cos", "tan", "cot", "sec", "csc")
    for hyperbolic in ("", "h")
) | {"ln", "log", "exp", "lg", "sgn", "gcd", "lcm", "max", "min"}  # fmt: skip
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma "
    "tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell".split()
)
CONSTANTS = {"pi": "pi", "infty": "infinity", "emptyset": "empty", "varnothing": "empty"}
PLAIN_WORDS = {"infinity": "infty", "inf": "infty", "oo": "infty", "arcsin": "arcsin"} | {
    word: word for word in ("pi", "sqrt", "cbrt", *FUNCTIONS, *(GREEK - {"nu", "mu", "xi", "eta"}))
}
ACCENTS = frozenset("vec hat bar overline tilde overrightarrow mathbf boldsymbol bm mathcal angle".split())
TOKEN = re.compile(
    r"\s*(?:(?P<number>\d*\.\d*\\overline\{\d+\}|\d+(?:\.\d*)?|\.\d+)"
    r"|\\text\{ *(?P<joint>or|and) *\}"
    r"|\\begin\{(?P<matrix>[pb]matrix)\}(?P<cells>.*?)\\end\{(?P=matrix)\}"
    rf"|\\(?P<accent>{'|'.join(sorted(ACCENTS))})(?: ?\{{(?P<accented>[A-Za-z]+)\}}| +(?P<letter>[A-Za-z]))"
    r"|(?P<command>\\[A-Za-z]+|\\[{}|])"
    r"|(?P<letters>[A-Za-z]+)"
    r"|(?P<symbol>\*\*|[<>!=]=|[-+*/^_=<>!|()\[\]{},;:'%]))",
    re.DOTALL,
)
Token = tuple[str, str]  # kind and text


class NotUnderstoodError(Exception):
    """Some part of the text is not a formula that the reader knows."""


def split_tokens(text: str) -> list[Token]:
    """Return the tokens of a formula. Raises NotUnderstoodError if there is something else in it."""
    found: list[Token] = []
    position, text = 0, text.strip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise NotUnderstoodError
        position = match.end()
        kind = match.lastgroup or ""
        if kind == "letters":
            found += _split_letters(match[kind])
        elif kind == "cells":
            found.append((kind, match[kind]))
        elif kind in ("accented", "letter"):
            found.append(("name", f"{match['accent']} {match[kind]}"))
        elif match[kind] == "**":
            found.append(("symbol", "^"))
        else:
            found.append((kind, match[kind]))
    return found


def _split_letters(letters: str) -> list[Token]:
    """Return known words, names in capitals and single variables: "pi", "AB", "x", "y"."""
    if letters in ("or", "and"):
        return [("joint", letters)]
    if letters in PLAIN_WORDS:
        return [("command", f"\\{PLAIN_WORDS[letters]}")]
    if letters.isupper() or len(letters) == 1:
        return [("name", letters)]
    if len(letters) > 3:  # a word; products of four variables are rarer
        raise NotUnderstoodError
    return [("name", letter) for letter in letters]
