r"""Final answers: finding one in a solution, and telling whether two are equal.

Equality goes from cheap to dear: the same text, the same canonical form, the same exact number, and only
then math-verify, in processes of its own (`answer_workers`) that are killed when they take too long. Model
text is never evaluated in this process.

>>> extract(r"Step 1: 2 + 3 = 5." "\n" "The answer is: $5$.")
'5'
>>> canonical("1,000.0") == canonical(r"\$1000") == "1000"
True
"""

import json
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from erprm_cli.answer_workers import WorkerPool
from erprm_cli.errors import UsageError

MAX_LENGTH = 512  # characters; the longest answer in MATH has fewer than half as many
MAX_DEPTH = 24  # brackets in brackets
CACHE_SIZE = 1 << 17  # pairs
ROUNDED_PLACES = 6  # a decimal with as many places may be a rounding, as in math-verify
FLOAT_PLACES = 12  # a printed float is not to be trusted beyond
MAX_VOTE_CLASSES = 16  # of one problem, compared with one another by math-verify


# ---- Extraction

PHRASE = re.compile(r"\bthe (?:final |correct )?answer is\b", re.IGNORECASE)
SENTENCE_END = re.compile(r"\.[*$]*\s+(?=[A-Z])")  # "$5$. I hope it is correct."
BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*\{?|\\.|[{}]", re.DOTALL)
WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))


def extract(text: str, rules: Sequence[str] = ("phrase", "boxed", "hashes")) -> str | None:
    r"""Return the final answer of a solution by the first of `rules` that finds one, else None.

    "phrase" is what follows the last "The answer is" in its line, "boxed" the content of the last closed
    \boxed{} or \fbox{}, "hashes" what follows the last "####" in its line. Dollars, boxes, bold and a full
    stop around the answer are taken off. The time is linear in the length of the text. UsageError for an
    unknown rule.
    """
    for rule in rules:
        if rule not in RULES:
            raise UsageError(f"no rule {rule!r} for answers; there are {', '.join(RULES)}")
        answer = _unwrap(RULES[rule](text) or "")
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
    """Return the content of the box that closes last, in one pass whatever the braces."""
    open_braces: list[int | None] = []  # where the content of a box begins; None for any other brace
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


def _unwrap(answer: str) -> str:
    """Take dollars, LaTeX's brackets, boxes, bold and a full stop off, in whatever order they are nested."""
    for _ in range(MAX_DEPTH):
        before = answer
        answer = answer.strip().removesuffix(".").rstrip()
        for left, right in WRAPPERS:
            inside = answer[len(left) : -len(right)]
            # "$3$ and $4$" begins and ends with a dollar, but they are no pair, and \$ is none of them
            if answer == left + inside + right and left not in inside.replace(r"\$", ""):
                answer = inside
        if answer.startswith(("\\boxed", "\\fbox")) and answer.endswith("}"):
            answer = _boxed(answer) or answer
        if answer == before:
            break
    return answer.strip("*") if answer.count("**") == 1 else answer


# ---- Canonical forms

SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[−–]", "-"),
        (r"\\!\s*|\\(?:left|right|displaystyle)(?![A-Za-z])", ""),
        (r"\{,\}", ","),
        (r"\\[,;:> ]|\\q?quad(?![A-Za-z])|[~\s]+", " "),
        (r"\\?\$|[€£]", ""),
        (r"\\%", "%"),
        (r"°|\\degree(?![A-Za-z])|\^\s*\{\s*\\circ\s*\}", r"^\\circ"),
        (r"π", r"\\pi "),
        (r"\\([lg])eq(?![A-Za-z])", r"\\\1e"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r" *([{}]) *", r"\1"),
        (r"\\frac *(\d) *(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac *(\d)\{", r"\\frac{\1}{"),
        (r"(\\frac\{[^{}]*\})(\d)", r"\1{\2}"),
        (r"\\sqrt *(\d)", r"\\sqrt{\1}"),
        (r"([_^])\{(\w)\}", r"\1\2"),
        (r" +", " "),
    )
]
TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf)\{([^{}]*)\}")
SPACE = re.compile(r"(?<!\d) | (?!\d)")  # "1 2" is not "12"
WORDS = re.compile(r"[A-Za-z][a-z]{2,}(?: [A-Za-z]+)*")  # east, All real numbers; but not xy
CHOICE = re.compile(r"\(([A-Z])\)")
IN_BASE = re.compile(r"[0-9A-Z]+_\{?\d+\}?")

# A number, what may follow it, and the forms a number has.
PLAIN = r"(?:(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+)"
UNIT = (  # three letters or a known short word; none that changes the number
    r"(?!dozen|hundred|thousand|million|billion|trillion|hal(?:f|ves)|thirds?|quarters?|fourths?|fifths?)"
    r"(?<![A-Za-z\\])(?:[A-Za-z]{3,}|[ckm]?m|k?g|ft|in|mi|yd|lbs?|oz|hrs?|m?L|is|of|to|at|by)(?: ?\^[23])?"
)
TAIL = re.compile(rf" ?(?:(?P<percent>%|percent)|\^\\circ|{UNIT}(?:[ /]{UNIT})*)\.?$")
NUMBERS = [
    re.compile(rf"(?P<sign>[+-]?) ?{form}")
    for form in (
        rf"(?P<above>{PLAIN})(?:[eE](?P<exponent>[+-]?\d{{1,3}}))?",
        rf"(?P<above>{PLAIN}) ?(?:\\times|\\cdot|\*|×) ?10 ?\^\{{?(?P<exponent>-?\d{{1,3}})\}}?",
        rf"(?P<above>{PLAIN}) ?/ ?(?P<below>{PLAIN})",
        rf"\\frac\{{(?P<above>-?{PLAIN})\}}\{{(?P<below>-?{PLAIN})\}}",
        r"(?P<whole>\d+) ?\\frac\{(?P<above>\d+)\}\{(?P<below>\d+)\}",
        r"(?P<whole>\d+) (?P<above>\d+) ?/ ?(?P<below>\d+)",
    )
]


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written: its exact value, the decimal places it shows, and whether it is in percent."""

    value: Fraction
    places: int = 0
    percent: bool = False

    def equals(self, other: "Number") -> bool:
        """Whether both are the same number; 15 % is 15 as well as 0.15, and 0.333333 is 1/3."""
        if self.percent == other.percent:
            return self._rounds_to(other)
        percent, plain = (self, other) if self.percent else (other, self)
        share = Number(percent.value / 100, percent.places + 2)
        return percent._rounds_to(plain) or share._rounds_to(plain)

    def _rounds_to(self, other: "Number") -> bool:
        if self.value == other.value:
            return True
        places = min(max(self.places, other.places), FLOAT_PLACES)
        return places >= ROUNDED_PLACES and abs(self.value - other.value) <= Fraction(1, 2 * 10**places)


@dataclass(frozen=True, slots=True)
class Form:
    """What can be seen in an answer cheaply: its canonical form, the number it is, whether it is words."""

    text: str
    number: Number | None
    words: bool


def canonical(prediction: str) -> str:
    r"""Return a cheap normal form, shared by equal numbers and by spellings that differ in LaTeX only.

    >>> canonical(r"\dfrac{1}{4}"), canonical("0.25"), canonical(r"\left( 3, \pi \right)")
    ('1/4', '1/4', '(3,\\pi)')
    """
    return _form(prediction).text if len(prediction) <= MAX_LENGTH else prediction.strip()


def number(text: str) -> Number | None:
    r"""Return the number that `text` is, exactly, or None.

    Understood are 1,000 and 12.50, \frac12, 1/2 and 1 1/2, 3e5 and 3 \times 10^5, 15\%, $5, 5 \text{ cm}.

    >>> number(r"-\frac12").value == Fraction("-0.5")
    True
    >>> number("1,2") is None  # a pair, not a thousand
    True
    """
    return _form(text).number if len(text) <= MAX_LENGTH else None


@lru_cache(maxsize=1 << 14)
def _form(answer: str) -> Form:
    spelled = _unwrap(answer)
    for pattern, replacement in SPELLINGS:
        spelled = pattern.sub(replacement, spelled)
    spelled = spelled.strip()
    value = _number(re.sub(" +", " ", TEXT.sub(r" \1", spelled)).strip())
    if value is not None:
        return Form(f"{value.value}{'%' * value.percent}", value, words=False)
    text = CHOICE.sub(r"\1", TEXT.sub(r"\1", spelled)).strip()
    words = len(text) > 1 and bool(TEXT.fullmatch(spelled) or WORDS.fullmatch(text))
    return Form(SPACE.sub("", text.lower() if words else text), None, words)


def _number(text: str) -> Number | None:
    tail = TAIL.search(text)
    bare = text[: tail.start()] if tail else text
    match = next(filter(None, (form.fullmatch(bare) for form in NUMBERS)), None)
    if match is None:
        return None
    part = {name: re.sub("[, ]", "", found) for name, found in match.groupdict("").items()}
    below = Fraction(part.get("below", 1))
    if not below:
        return None
    value = Fraction(part.get("whole", 0)) + Fraction(part["above"]) / below
    value *= Fraction(10) ** int(part.get("exponent") or 0)
    places = len(part["above"].partition(".")[2]) if below == 1 else 0
    return Number(-value if part["sign"] == "-" else value, places, bool(tail and tail["percent"]))


# ---- Equality

TOWER = re.compile(r"(?:\^[\s{(]*(?:\d+|[A-Za-z]|\\[A-Za-z]+)[\s})]*){2}\^")  # 9^{9^{9^9}}, not x^2y^2z^2
ASSIGNED = re.compile(r"[A-Za-z]=(.+)")
CONTENT = re.compile(r"\w")


Pair = tuple[str, str]  # gold and prediction


@dataclass(slots=True)
class Verdict:
    """Whether two answers are equal: known at once, or when math-verify has told."""

    found: bool | Future[bool | None]
    pair: Pair = ("", "")
    grader: "Grader | None" = None  # that is waiting for `found`

    def is_known(self) -> bool:
        """Return whether `equal` need not wait."""
        return isinstance(self.found, bool) or self.found.done()

    def equal(self) -> bool:
        """Wait for the verdict and return it; a pair without one is counted and told of here."""
        if isinstance(self.found, bool):
            return self.found
        assert self.grader is not None
        self.found = self.grader.settle(self.pair, self.found)
        return self.found

    def reward(self) -> float:
        """Wait for the verdict and return the outcome reward r(a, x): 1.0 if equal, else 0.0."""
        return float(self.equal())


class Grader:
    """Compares answers, and remembers what it compared. A context manager; usable from any thread.

    `unknown` counts the pairs that got no verdict, as they took too long or too much; they grade as unequal.
    A pair is counted, and told of, when someone waits for its verdict: in that order, whichever worker is
    first. The worker processes start with the first pairs that need them, and end with the grader or with
    this process.
    """

    def __init__(
        self, note: Callable[[str, str, str], object] | None = None, num_workers: int | None = None
    ) -> None:
        """Tell `note` (as `BadRows.note`: place, reason, the pair as JSON) of each pair without a verdict.

        At most `num_workers` processes compare; see WorkerPool for their default.
        """
        self._note = note
        self._num_workers = num_workers
        self._cheaply = lru_cache(CACHE_SIZE)(_compare_cheaply)
        self._lock = threading.Lock()  # of what follows; `note` is called by one thread at a time
        self._pool: WorkerPool | None = None
        self._asked: dict[Pair, bool | Future[bool | None]] = {}  # the workers, the oldest question first
        self._unknown: set[Pair] = set()

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes. The grader may be used again."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._asked = {pair: found for pair, found in self._asked.items() if isinstance(found, bool)}
        if pool is not None:
            pool.close()

    @property
    def unknown(self) -> int:
        """How many pairs got no verdict."""
        return len(self._unknown)

    def reward(self, gold: str, prediction: str | None) -> float:
        """Return the outcome reward r(a, x): 1.0 if `prediction` equals the gold answer, else 0.0."""
        return float(self.equal(gold, prediction))

    def equal(self, gold: str, prediction: str | None) -> bool:
        """Return whether `prediction` is the same answer as `gold`; None and empty text equal nothing.

        Numbers are compared exactly, except that a decimal of ROUNDED_PLACES or more is what rounds to it.
        An answer longer than MAX_LENGTH equals only itself. EngineError if math-verify cannot be started.
        """
        return self.submit(gold, prediction).equal()

    def submit(self, gold: str, prediction: str | None) -> Verdict:
        """Begin to compare two answers, as `equal` does; pairs that are hard are compared side by side."""
        if prediction is None:
            return Verdict(False)
        if gold.strip() == prediction.strip():
            return Verdict(bool(gold.strip()))
        if max(len(gold), len(prediction)) > MAX_LENGTH:
            return Verdict(False)
        equal = self._cheaply(gold, prediction)
        if equal is not None:
            return Verdict(equal)
        pair = gold, prediction
        return Verdict(self._ask(pair), pair, self)

    def settle(self, pair: Pair, found: "Future[bool | None]") -> bool:
        """Return the verdict, when it is there; count the pair, and tell of it, if there is none."""
        verdict = found.result()
        with self._lock:
            if pair in self._asked:
                self._asked[pair] = bool(verdict)  # a future is large
            if verdict is None and pair not in self._unknown:
                self._unknown.add(pair)
                if self._note is not None:
                    text = json.dumps({"gold": pair[0], "prediction": pair[1]})
                    self._note("answers", "no verdict within the limits of time and memory; graded 0", text)
        return bool(verdict)

    def summary(self) -> str:
        """Return what a summary should say of pairs without a verdict: nothing where there are none."""
        answers = "1 answer" if self.unknown == 1 else f"{self.unknown:,} answers"
        return f", {answers} unknown (no verdict in time, graded 0)" if self.unknown else ""

    def _ask(self, pair: Pair) -> bool | Future[bool | None]:
        """Return what the workers found, or will find; a pair that is under way is asked once."""
        with self._lock:
            found = self._asked.get(pair)
            if found is None:
                if any(map(_is_monstrous, pair)):
                    found = Future()
                    found.set_result(None)
                else:
                    self._pool = self._pool or WorkerPool(self._num_workers)
                    found = self._pool.submit(*map(_inline, pair))
                self._asked[pair] = found
                if len(self._asked) > CACHE_SIZE:
                    del self._asked[next(iter(self._asked))]
            return found


def _compare_cheaply(gold: str, prediction: str) -> bool | None:
    """Return whether two answers are equal, or None if only math-verify can tell."""
    known, tried = _form(gold), _form(prediction)
    if known.text == tried.text:
        return bool(known.text)
    if known.number and (assigned := ASSIGNED.fullmatch(tried.text)):  # x = 5
        tried = _form(assigned[1])
    if known.number and tried.number:
        return known.number.equals(tried.number)
    if known.words and tried.words:
        return False
    if IN_BASE.fullmatch(known.text) and IN_BASE.fullmatch(tried.text):
        return False  # math-verify drops the base
    if not CONTENT.search(tried.text):
        return False
    return None


def _inline(answer: str) -> str:
    """Return an answer as math-verify is to read it between dollars."""
    return re.sub(r"(?<!\\)\$|\s+", " ", _unwrap(answer)).strip()


def group(answers: Sequence[str | None], grader: Grader | None = None) -> list[list[int]]:
    """Return the indices of `answers` in classes of equal ones, for votes, in order of first appearance.

    None is in no class. Answers of one canonical form are equal; with a grader, so are classes whose first
    answers are, of which it compares the MAX_VOTE_CLASSES largest.
    """
    by_form: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        if answer is not None:
            by_form.setdefault(canonical(answer), []).append(index)
    classes: list[list[int]] = []
    for rank, indices in enumerate(sorted(by_form.values(), key=len, reverse=True)):
        same = None
        if grader is not None and rank < MAX_VOTE_CLASSES:
            first = answers[indices[0]]
            verdicts = [grader.submit(answers[one[0]] or "", first) for one in classes]  # side by side
            pairs = zip(classes, verdicts, strict=True)
            same = next((one for one, verdict in pairs if verdict.equal()), None)
        if same is None:
            classes.append(indices)
        else:
            same.extend(indices)
    return sorted(map(sorted, classes))


def _is_monstrous(answer: str) -> bool:
    """Whether an answer is a tower of powers or nested so deep that no parser need see it."""
    depth = 0
    for bracket in re.findall(r"[{(\[\])}]", answer):
        depth += 1 if bracket in "{([" else -1
        if depth > MAX_DEPTH:
            return True
    return bool(TOWER.search(answer))
