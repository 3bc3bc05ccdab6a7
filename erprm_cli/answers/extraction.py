r"""The final answer of a solution: after a phrase, on an answer line, in a box, or after ####.

>>> extract(r"Step 1: 2 + 3 = 5." "\n" "The answer is: $5$.")
'5'
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from erprm_cli.errors import UsageError

MAX_NESTING = 24  # of dollars, boxes and emphasis around an answer

PHRASE = re.compile(r"(?<![A-Za-z])the (?:final |correct )?[*_]*answer[*_]* is(?![A-Za-z])", re.IGNORECASE)
ANSWER_LINE = re.compile(
    r"^[ \t>*_#-]*(?:the )?(?:(?:final |correct )?answer[ \t*_]*:|final answer[*_]*[ \t]*$)[*_]*",
    re.IGNORECASE | re.MULTILINE,
)
SENTENCE_END = re.compile(r"\.[*$]*\s+(?=[A-Z])")  # "$5$. I hope it is correct."
EQUATION_CHAIN = re.compile(r"[^=,;<>]+=[^=,;<>]+=([^=,;<>]+)")  # m + n = 256 + 37 = 293
BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*\{?|\\.|[{}]", re.DOTALL)
BOX_JOINT = re.compile(r"(?:[\s$,;]|\\[,;: ]|\\q?quad|\\(?:text|mbox)\{\s*(?:and|or)\s*\}|and|or)*")
WRAPPERS = (
    *(("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")),
    *(("**", "**"), ("__", "__"), ("*", "*"), ("`", "`")),  # Markdown
)
CHOICE_LETTER = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\{\s*(\([A-J]\))\s*\}(?:\\ |[\s~])*(?=\S)")

DEFAULT_RULES = ("phrase", "line", "boxed", "hashes")
WORKED_RULES = ("boxed", "hashes", "phrase", "line")  # for data sets: they mark the answer where they can

THOUGHT, THOUGHT_END = "<think>", "</think>"
NEXT_PROBLEM = re.compile(r"(?<=\n)[ \t*#]*(?:Question|Problem|Q|Human|User)\b[ \t]*\d*[ \t]*:")


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule has found: the text of an answer, and where its mark begins and its line ends."""

    answer: str
    start: int
    end: int


def extract(text: str, rules: Sequence[str] = DEFAULT_RULES) -> str | None:
    r"""Return the final answer of a solution by the first of `rules` that finds one, else None.

    "phrase" takes the text after the last "The answer is" in its line, "line" the text after the last line
    that begins with "Answer:" or "Final answer:", "boxed" the content of the last \boxed{} or \fbox{} and of
    those that stand together with it, "hashes" the text after the last "####" in its line. A phrase or an
    answer line gives way to a box or #### that comes after more text. Dollars, boxes, Markdown emphasis and a
    full stop around the answer are removed.

    Reasoning that ends with </think> counts only if no answer follows it; a text that begins with <think>
    and has no end of it has no answer. A next problem ("Question:" at the beginning of a line) counts only if
    no answer precedes it. Time is linear in the length of the text. Raises UsageError for an unknown rule.
    """
    for rule in rules:
        if rule not in RULES:
            raise UsageError(f"unknown answer rule {rule!r}; known rules: {', '.join(RULES)}")
    if text.lstrip().startswith(THOUGHT) and THOUGHT_END not in text:
        return None
    answer = text.rpartition(THOUGHT_END)[2]
    for part in (answer, text) if len(answer) < len(text) else (text,):
        own = _before_next_problem(part)
        found = own is not None and _by_rules(own, rules) or _by_rules(part, rules)
        if found:
            return found
    return None


def _before_next_problem(text: str) -> str | None:
    """Return what comes before the problem that a base model makes up next, or None if there is none."""
    following = NEXT_PROBLEM.search(text)
    return text[: following.start()] if following else None


def _by_rules(text: str, rules: Sequence[str]) -> str | None:
    finds = {rule: found for rule in rules if (found := RULES[rule](text)) and unwrap(found.answer)}
    marks = [found.start for rule, found in finds.items() if rule in ("boxed", "hashes")]
    for rule, found in finds.items():
        gives_way = rule in ("phrase", "line") and any(
            start > found.end and text[found.end : text.rfind("\n", 0, start) + 1].strip() for start in marks
        )
        if not gives_way:
            return unwrap(found.answer)
    return None


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = None
    for match in pattern.finditer(text):
        last = match
    return last


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _phrase(text: str) -> Found | None:
    phrase = _last_match(PHRASE, text)
    if phrase is None:
        return None
    end = _line_end(text, phrase.end())
    line = text[phrase.end() : end].lstrip(" \t:*_")
    boxed = _boxed(line)
    return Found(boxed.answer if boxed else SENTENCE_END.split(line, maxsplit=1)[0], phrase.start(), end)


def _answer_line(text: str) -> Found | None:
    mark = _last_match(ANSWER_LINE, text)
    if mark is None:
        return None
    rest = text[mark.end() :]
    start = mark.end() + len(rest) - len(rest.lstrip())  # the answer may be on a line of its own
    end = _line_end(text, start)
    line = text[start:end]
    boxed = _boxed(line)
    answer = boxed.answer if boxed else SENTENCE_END.split(line, maxsplit=1)[0]
    chain = EQUATION_CHAIN.fullmatch(unwrap(answer))
    return Found(chain[1] if chain else answer, mark.start(), end)


def _boxed(text: str) -> Found | None:
    """Return the box that closes last, in a single pass even if braces are unbalanced."""
    open_braces: list[tuple[int, int] | None] = []  # start of a box and of its content; None for other braces
    closed: list[tuple[int, int, int]] = []  # start, start of content, end of content; no box inside another
    unbraced: re.Match[str] | None = None  # \boxed 5
    for match in BOX_TOKEN.finditer(text):
        token = match.group()
        if token == "{":
            open_braces.append(None)
        elif token == "}":
            box = open_braces.pop() if open_braces else None
            if box is not None:
                while closed and closed[-1][0] > box[0]:
                    closed.pop()
                closed.append((*box, match.start()))
        elif len(token) > 2:
            if token.endswith("{"):
                open_braces.append((match.start(), match.end()))
            else:
                unbraced = match
    if unbraced and (not closed or unbraced.start() > closed[-1][0]):
        end = _line_end(text, unbraced.end())
        inside, dollar, _ = text[unbraced.end() : end].partition("$")
        return Found(inside if dollar else (inside.split() or [""])[0], unbraced.start(), end)
    if closed:
        return _joined(text, closed)
    for start, inside_start in filter(None, reversed(open_braces)):  # cut off before its end
        end = _line_end(text, inside_start)
        return Found(text[inside_start:end].partition("$")[0], start, end)
    return None


def _joined(text: str, boxes: list[tuple[int, int, int]]) -> Found:
    """Return the last box and those before it with nothing but commas, "and" or "or" between, as one list."""
    first, alternatives = len(boxes) - 1, False
    while first and (joint := BOX_JOINT.fullmatch(text, boxes[first - 1][2] + 1, boxes[first][0])):
        first -= 1
        alternatives |= "or" in joint[0]
    contents = dict.fromkeys(text[start:end] for _, start, end in boxes[first:])
    joined = (" or " if alternatives else ", ").join(contents)
    return Found(joined, boxes[first][0], _line_end(text, boxes[-1][2]))


def _hashes(text: str) -> Found | None:
    before, hashes, rest = text.rpartition("####")
    if not hashes:
        return None
    return Found(rest.partition("\n")[0], len(before), len(before) + 4)


RULES: dict[str, Callable[[str], Found | None]] = {
    "phrase": _phrase,
    "boxed": _boxed,
    "hashes": _hashes,
    "line": _answer_line,
}


def unwrap(answer: str) -> str:
    """Remove dollars, LaTeX's math brackets, boxes, emphasis and a full stop, nested in any order."""
    for _ in range(MAX_NESTING):
        before = answer
        answer = answer.strip().removesuffix(".").rstrip()
        for left, right in WRAPPERS:
            inside = answer[len(left) : -len(right)]
            # "$3$ and $4$" starts and ends with a dollar, but those two are not a pair; \$ never counts
            if answer == left + inside + right and left not in inside.replace(r"\$", ""):
                answer = inside
        if answer.startswith(("\\boxed", "\\fbox")) and answer.endswith("}"):
            boxed = _boxed(answer)
            answer = boxed.answer if boxed and boxed.answer else answer
        if answer.count("**") == 1:  # the other one was before the answer
            answer = answer.strip("*")
        if answer == before:
            break
    return CHOICE_LETTER.sub(r"\1 ", answer, count=1).strip() if "(" in answer else answer
