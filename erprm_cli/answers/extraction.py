r"""The final answer of a solution: after a phrase, in a box, or after ####.

>>> extract(r"Step 1: 2 + 3 = 5." "\n" "The answer is: $5$.")
'5'
"""

import re
from collections.abc import Sequence

from erprm_cli.errors import UsageError

MAX_NESTING = 24  # levels of brackets

PHRASE = re.compile(r"\bthe (?:final |correct )?answer is\b", re.IGNORECASE)
SENTENCE_END = re.compile(r"\.[*$]*\s+(?=[A-Z])")  # "$5$. I hope it is correct."
BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*\{?|\\.|[{}]", re.DOTALL)
WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))


def extract(text: str, rules: Sequence[str] = ("phrase", "boxed", "hashes")) -> str | None:
    r"""Return the final answer of a solution by the first of `rules` that finds one, else None.

    "phrase" takes the text after the last "The answer is" in its line, "boxed" the content of the last closed
    \boxed{} or \fbox{}, "hashes" the text after the last "####" in its line. Dollars, boxes, bold and a full
    stop around the answer are removed. Time is linear in the length of the text. Raises UsageError for an
    unknown rule.
    """
    for rule in rules:
        if rule not in RULES:
            raise UsageError(f"unknown answer rule {rule!r}; known rules: {', '.join(RULES)}")
        answer = unwrap(RULES[rule](text) or "")
        if answer:
            return answer
    return None


def _phrase(text: str) -> str | None:
    end = None
    for match in PHRASE.finditer(text):
        end = match.end()
    if end is None:
        return None
    line = text[end:].partition("\n")[0].lstrip(" \t:*")
    return _boxed(line) or SENTENCE_END.split(line, maxsplit=1)[0]


def _boxed(text: str) -> str | None:
    """Return the content of the box that closes last, in a single pass even if braces are unbalanced."""
    open_braces: list[int | None] = []  # start of a box's content; None for any other brace
    last: tuple[int, int | None] | None = None
    for match in BOX_TOKEN.finditer(text):
        token = match.group()
        if token == "{":
            open_braces.append(None)
        elif token == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None:
                last = (start, match.start())
        elif len(token) > 2:
            if token.endswith("{"):
                open_braces.append(match.end())
            else:  # \boxed 5
                last = (match.end(), None)
    if last is None:
        return None
    if last[1] is not None:
        return text[slice(*last)]
    line = text[last[0] :].partition("\n")[0]
    inside, dollar, _ = line.partition("$")
    return inside if dollar else (line.split() or [""])[0]


def _hashes(text: str) -> str | None:
    _, hashes, rest = text.rpartition("####")
    return rest.partition("\n")[0] if hashes else None


RULES = {"phrase": _phrase, "boxed": _boxed, "hashes": _hashes}


def unwrap(answer: str) -> str:
    """Remove dollars, LaTeX's math brackets, boxes, bold and a full stop, nested in any order."""
    for _ in range(MAX_NESTING):
        before = answer
        answer = answer.strip().removesuffix(".").rstrip()
        for left, right in WRAPPERS:
            inside = answer[len(left) : -len(right)]
            # "$3$ and $4$" starts and ends with a dollar, but those two are not a pair; \$ never counts
            if answer == left + inside + right and left not in inside.replace(r"\$", ""):
                answer = inside
        if answer.startswith(("\\boxed", "\\fbox")) and answer.endswith("}"):
            answer = _boxed(answer) or answer
        if answer == before:
            break
    return answer.strip("*") if answer.count("**") == 1 else answer
