"""The domain of `tiny`: word problems about one running count, and how people solve and misread them.

A problem is a start and 2 to 6 events; its gold answer is computed and always right. A written solution
has one line per calculation, each naming the event that it is about. Some kinds of event are open to a
misconception (a doubled amount read as plus two); `MISREAD` says how often a writer holds it. A writer who
misreads calculates faithfully from there on, so every line of a wrong solution is good arithmetic.
"""

from dataclasses import dataclass
from random import Random

NAMES = ("Tom", "Ann", "Ben", "Eva", "Sam", "Mia", "Leo", "Zoe", "Max", "Ida")
ITEMS = ("apples", "coins", "cards", "shells", "books", "pens", "stamps", "nuts", "beads", "eggs")

# How often a written solution holds the misconception of a kind of event. Above one half the wrong
# reading is the commoner one, and a majority vote repeats it.
MISREAD = {
    "more": 0.0,
    "less": 0.0,
    "doubles": 0.60,
    "boxes": 0.56,
    "half": 0.34,
    "dozen": 0.36,
    "pairs": 0.30,
    "third": 0.28,
    "friends": 0.22,
    "days": 0.18,
}
PLAIN = ("more", "less")
COMMONLY_MISREAD = ("doubles", "boxes")  # at most one a problem
SOMETIMES_MISREAD = ("half", "dozen", "pairs", "third", "friends", "days")  # at most two a problem
LARGEST_COUNT = 99
LARGEST_FACTOR_COUNT = 33  # what may still be doubled or tripled


@dataclass(frozen=True)
class Event:
    """One sentence of a problem: its kind and its one or two numbers."""

    kind: str
    a: int
    b: int
    sentence: str


@dataclass(frozen=True)
class Problem:
    """A start, its events and the sentence that asks."""

    start: int
    events: tuple[Event, ...]
    text: str
    answer: int


def lines_of(event: Event, count: int, misread: bool) -> tuple[list[str], int]:
    """Return the calculations of one event from `count`, and the count after it.

    Wrong readings can reach an odd half or less than nothing; they round down and stop at 0.
    """
    kind, a, b = event.kind, event.a, event.b
    if kind == "more":
        return [_line("more", count, "+", a)], count + a
    if kind == "less":
        return [_line("less", count, "-", a)], max(0, count - a)
    if kind == "doubles":
        word = "doubles" if a == 2 else "triples"
        return _single(word, count, "+" if misread else "*", a)
    if kind in ("half", "third"):
        return _single(kind, count, "-" if misread else "/", a)
    if kind == "pairs":
        if misread:
            return _single("pairs", count, "+", a)
        return _double("pairs", a, "*", 2, count)
    if kind == "dozen":
        return _double("dozen", a, "*", 10 if misread else 12, count)
    if kind == "boxes" and misread:
        return _single("boxes", count, "+", b)
    return _double(kind, a, "+" if misread else "*", b, count)


def write_solution(problem: Problem, random: Random, misread_scale: float = 1.0) -> tuple[str, bool]:
    """Return one writer's solution and whether its answer is right."""
    count, lines = problem.start, []
    for event in problem.events:
        misread = random.random() < MISREAD[event.kind] * misread_scale
        added, count = lines_of(event, count, misread)
        lines += added
    steps = "".join(f"Step {number}: {line}\n" for number, line in enumerate(lines, start=1))
    return f"{steps}The answer is: {count}", count == problem.answer


def make_problem(random: Random) -> Problem:
    """Draw a problem of 2 to 8 calculations whose counts stay between 1 and `LARGEST_COUNT`."""
    while True:
        problem = _try_problem(random)
        if problem is not None:
            return problem


def checked_sums(random: Random, size: int = 8) -> list[tuple[str, bool]]:
    """Return lines of arithmetic, each followed by " +" where it is right and " -" where it is not.

    Schoolbook drill, with no word problem in it: from it a model learns to calculate and to check. The lines
    come in pieces, each with whether it is to be learned: the verdicts are, and the right results, but
    neither what is asked nor a wrong result.
    """
    pieces = []
    for _ in range(size):
        left, operator, right = _drill(random)
        result = calculate(left, operator, right)
        shown = result if random.random() < 0.5 else _nearby(result, random)
        is_right = shown == result
        pieces += [
            (f"{left} {operator} {right} =", False),
            (f" {shown}.", is_right),
            (" +" if is_right else " -", True),
            ("\n", False),
        ]
    return pieces


def calculate(left: int, operator: str, right: int) -> int:
    """Return the whole, non-negative result that the domain's calculations use."""
    if operator == "+":
        return left + right
    if operator == "-":
        return max(0, left - right)
    return left * right if operator == "*" else left // right


def _line(word: str, left: int, operator: str, right: int) -> str:
    return f"{word}, {left} {operator} {right} = {calculate(left, operator, right)}."


def _single(word: str, count: int, operator: str, number: int) -> tuple[list[str], int]:
    return [_line(word, count, operator, number)], calculate(count, operator, number)


def _double(word: str, a: int, operator: str, b: int, count: int) -> tuple[list[str], int]:
    part = calculate(a, operator, b)
    return [_line(word, a, operator, b), _line("add", count, "+", part)], count + part


def _try_problem(random: Random) -> Problem | None:
    name, other = random.sample(NAMES, 2)
    item = random.choice(ITEMS)
    kinds = [random.choice(SOMETIMES_MISREAD) for _ in range(random.choice((0, 1, 2, 2)))]
    if random.random() < 0.46:
        kinds.append(random.choice(COMMONLY_MISREAD))
    kinds += [random.choice(PLAIN) for _ in range(random.randint(2 - min(2, len(kinds)), 3))]
    random.shuffle(kinds)
    start = count = random.randint(3, 30)
    events: list[Event] = []
    num_lines = 0
    for kind in kinds:
        event = _draw(kind, count, name, other, item, random)
        if event is None:
            return None
        lines, count = lines_of(event, count, misread=False)
        num_lines += len(lines)
        if not 0 < count <= LARGEST_COUNT:
            return None
        events.append(event)
    if not 2 <= num_lines <= 8:
        return None
    ask = random.choice((f"How many {item} does {name} have now?", f"How many {item} are there in the end?"))
    sentences = [f"{name} has {start} {item}.", *(event.sentence for event in events), ask]
    return Problem(start, tuple(events), " ".join(sentences), count)


def _draw(kind: str, count: int, name: str, other: str, item: str, random: Random) -> Event | None:
    forms: tuple[str, ...]
    if kind == "more":
        a, b = random.randint(2, 30), 0
        forms = (f"{name} gets {a} more.", f"{other} brings {a} more {item}.")
    elif kind == "less":
        if count < 5:
            return None
        a, b = random.randint(2, min(30, count - 1)), 0
        forms = (f"{name} loses {a} of them.", f"{other} takes {a} of the {item}.")
    elif kind == "doubles":
        if count > LARGEST_FACTOR_COUNT:
            return None
        a, b = random.choice((2, 3)), 0
        verb = "doubles" if a == 2 else "triples"
        forms = (f"Then {name} {verb} the number of {item}.", f"The number of {item} {verb}.")
    elif kind in ("half", "third"):
        a, b = (2 if kind == "half" else 3), 0
        if count % a or count < 6:
            return None
        share = "half" if kind == "half" else "a third"
        verb = random.choice(("loses", "sells"))
        kept = f"{name} keeps only {share} of the {item}."
        forms = (f"{name} {verb} {share} of the {item}.",) if kind == "half" else (kept,)
    elif kind == "pairs":
        a, b = random.randint(3, 9), 0
        forms = (f"{name} finds {a} pairs of {item}.", f"{other} gives {name} {a} pairs.")
    elif kind == "dozen":
        a, b = random.randint(2, 4), 0
        forms = (f"{name} buys {a} dozen.", f"{other} brings {a} dozen {item}.")
    elif kind == "boxes":
        a, b = random.randint(2, 9), random.randint(2, 9)
        forms = (
            f"{name} buys {a} boxes of {b} {item}.",
            f"{other} brings {a} boxes with {b} in each.",
        )
    elif kind == "friends":
        a, b = random.randint(3, 9), random.randint(3, 9)
        forms = (
            f"Each of {a} friends gives {name} {b} {item}.",
            f"{a} friends bring {b} {item} each.",
        )
    else:
        a, b = random.randint(3, 9), random.randint(3, 9)
        forms = (
            f"{name} gets {a} {item} a day for {b} days.",
            f"For {b} days {name} finds {a} a day.",
        )
    return Event(kind, a, b, random.choice(forms))


def _drill(random: Random) -> tuple[int, str, int]:
    operator = random.choice("++--**/")
    if operator == "+":
        return random.randint(2, 99), "+", random.randint(2, 60)
    if operator == "-":
        left = random.randint(3, 120)
        return left, "-", random.randint(1, min(left, 40))
    if operator == "*":
        if random.random() < 0.4:
            return random.randint(2, LARGEST_FACTOR_COUNT), "*", random.choice((2, 3))
        if random.random() < 0.4:
            return random.randint(2, 4), "*", random.choice((10, 12))
        return random.randint(2, 9), "*", random.randint(2, 9)
    return random.randint(3, 120), "/", random.choice((2, 3))


def _nearby(result: int, random: Random) -> int:
    """Return a wrong result of the sort people write: off by little, by ten, or with digits swapped."""
    guesses = [result + step for step in (-10, -3, -2, -1, 1, 2, 3, 10)]
    guesses += [int(str(result)[::-1]), result + random.randint(-20, 20)]
    return random.choice([guess for guess in guesses if guess >= 0 and guess != result])
