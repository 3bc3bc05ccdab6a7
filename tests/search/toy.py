"""A chain of steps with exact values: each step is right with probability 0.85; one wrong step spoils it."""

from collections.abc import Callable

import numpy as np

from erprm_cli.search.prefix import Found, Prefix, Search

STEPS, RIGHT = 4, 0.85
RATE = RIGHT**STEPS  # of a whole solution

Rate = Callable[[Prefix], float]


def exact_rate(prefix: Prefix) -> float:
    """Return the success rate of the completions of a prefix, whose text is a letter per step."""
    return 0.0 if "w" in prefix.text else RIGHT ** (STEPS - len(prefix.text))


def reward(prefix: Prefix) -> float:
    return float(exact_rate(prefix) == 1)


def run(search: Search, random: np.random.Generator, right: float = RIGHT) -> Found:
    """Answer the requests of a search from the chain; a greedy step is right."""
    try:
        asked = next(search)
        while True:
            answers = []
            for prefix, _, reach in asked:
                text = prefix.text
                while len(text) < STEPS:
                    text += "r" if reach == "greedy step" or random.random() < right else "w"
                    if reach != "end":
                        break
                reason = "stop" if len(text) == STEPS else None
                scores = tuple(exact_rate(Prefix(text[:count])) for count in range(1, len(text) + 1))
                answers.append(Prefix(text, (), len(text), tuple(text), scores, reason))
            asked = search.send(answers)
    except StopIteration as stop:
        found: Found = stop.value
        return found
