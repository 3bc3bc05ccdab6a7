r"""Spellings of the same mathematics: Unicode, LaTeX commands that only change the look, and plain text.

>>> respell(r"\boldsymbol{\dfrac12}"), respell("2√3"), respell("½")
('\\frac{1}{2}', '2\\sqrt{3}', '1/2')
"""

import re
import unicodedata
from functools import lru_cache

from erprm_cli.answers.extraction import unwrap

UNICODE = {
    "√": r"\sqrt ", "∛": r"\cbrt ", "π": r"\pi ", "∞": r"\infty ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}",
    "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∈": r"\in ",
    "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "÷": r"\div ", "±": r"\pm ", "∓": r"\mp ", "°": r"^\circ", "′": "'", "’": "'", "⌊": r"\lfloor ",
    "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∣": "|", "⁄": "/", "∕": "/", "％": "%",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "θ": r"\theta ", "λ": r"\lambda ",
    "μ": r"\mu ", "σ": r"\sigma ", "φ": r"\phi ", "ω": r"\omega ", "∠": r"\angle ",
} | dict.fromkeys("−–—‐‑‒", "-") | dict.fromkeys("\u200b\u2060\ufeff", "")  # fmt: skip
CHARACTERS = str.maketrans(UNICODE)
RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
BUILT_UP = re.compile(r"(\d?)([¼-¾⅐-⅞])")  # 1½ is a mixed number

LOOK = (  # commands that only make what is in their braces look different
    "boldsymbol|bm|mathbf|textbf|textit|textrm|textnormal|textsf|texttt|mathrm|mathit|mathsf|mathtt|mbox|text|"
    "emph|underline|pmb|ensuremath"
)
LOOK_OR_BRACE = re.compile(rf"\\(?P<look>{LOOK})\s*\{{|\\[{{}}\\]|(?P<brace>[{{}}])")
BOLD = frozenset(("mathbf", "boldsymbol", "bm", "pmb"))  # of one letter: a vector, not the variable
WORDS = re.compile(r"[ (]*[A-Za-z%][^\\]+")

# Replaced in this order.
SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\\\\s*", r"\\\\"),  # the end of a row
        (r"\\(?:textcolor|color) ?\{[^{}]*\}", ""),
        (r"\\!\s*|\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits|large|Large|bf|rm|it)(?![A-Za-z])", ""),
        (r"(?<=\d),\\!(?=\d{3})|\{,\}(?=\d{3}(?!\d))", ","),
        (r"\\[,;:> ]|\\q?quad(?![A-Za-z])|[~\s]+", " "),
        (r"\\?\$|[€£]", ""),
        (r"\\%", "%"),
        (r"\\degree(?![A-Za-z])|\^ *\{ *\\circ *\}|\^ *\\circ(?![A-Za-z])", r"^\\circ"),
        (r"\\([lg])eq(?:slant)?(?![A-Za-z])", r"\\\1e"),
        (r"\\(?:[lr]vert|mid|vert)(?![A-Za-z])", "|"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r" *([{}]) *", r"\1"),
        (r"\\frac *(\d) *(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac *(\d)\{", r"\\frac{\1}{"),
        (r"(\\frac\{[^{}]*\})(\d)", r"\1{\2}"),
        (r"\\sqrt *(\d)", r"\\sqrt{\1}"),
        (r"(?<![A-Za-z])(?:[Aa]ll )?[Rr]eal numbers", r"\\mathbb{R}"),
        (r" +", " "),
    )
]


@lru_cache(maxsize=1 << 14)
def respell(answer: str) -> str:
    r"""Return an answer with one spelling for each thing; words are in \text{}, with their spaces."""
    text = unwrap(answer).translate(CHARACTERS)
    text = BUILT_UP.sub(_built_up, text)
    text = RAISED.sub(
        lambda raised: f"^{{{unicodedata.normalize('NFKC', raised[0])}}}".replace("−", "-"), text
    )
    text = LOWERED.sub(lambda lowered: f"_{{{unicodedata.normalize('NFKC', lowered[0])}}}", text)
    text = _plain_look(text)
    for pattern, replacement in SPELLINGS:
        text = pattern.sub(replacement, text)
    text = text.strip()
    inside = text[1:-1]
    return inside if text == f"{{{inside}}}" and not re.search("[{},]", inside) else text


def _built_up(fraction: re.Match[str]) -> str:
    above_below = unicodedata.normalize("NFKC", fraction[2]).replace("⁄", "/")
    return f"{fraction[1]} {above_below}" if fraction[1] else above_below


def _plain_look(text: str) -> str:
    """Remove the commands of LOOK and their braces, around words in favour of one command for text."""
    parts: list[list[str]] = [[]]  # what is in each open brace
    opened: list[str] = []  # the command before each open brace, or nothing
    end = 0
    for match in LOOK_OR_BRACE.finditer(text):
        parts[-1].append(text[end : match.start()])
        end = match.end()
        if match["look"] or match["brace"] == "{":
            opened.append(match["look"] or "")
            parts.append([])
        elif match["brace"] == "}" and opened:
            look, inside = opened.pop(), "".join(parts.pop())
            parts[-1].append(_without_look(look, inside) if look else f"{{{inside}}}")
        else:
            parts[-1].append(match[0])
    parts[-1].append(text[end:])
    whole = "".join(parts[0])
    for look, part in zip(opened, parts[1:], strict=True):  # never closed
        whole += (f"\\{look}" if look else "") + "{" + "".join(part)
    return whole


def _without_look(look: str, inside: str) -> str:
    if len(inside) == 1 and inside.isalpha():
        return f"\\mathbf{{{inside}}}" if look in BOLD else inside
    return f"\\text{{{inside}}}" if WORDS.fullmatch(inside) else inside
