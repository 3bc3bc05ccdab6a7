"""Solution text and its steps. Steps are substrings of the solution, in order; prefixes are exact text."""

import re
from collections.abc import Sequence


def split_steps(solution: str, step_break: str) -> list[str]:
    """Return what lies between the matches of the regular expression `step_break`, trimmed.

    No step is empty, except that a solution without any text has one step, the empty one.

    >>> split_steps("Step 1: 2 + 3 = 5.\\nThe answer is: 5\\n", r"\\n+")
    ['Step 1: 2 + 3 = 5.', 'The answer is: 5']
    """
    parts, begin = [], 0
    for gap in re.finditer(step_break, solution):  # unlike re.split, it does not mind groups
        parts.append(solution[begin : gap.start()])
        begin = gap.end()
    parts.append(solution[begin:])
    return [step for part in parts if (step := part.strip())] or [""]


def step_starts(solution: str, steps: Sequence[str]) -> list[int]:
    """Return where each step begins in `solution` (characters). ValueError if one is not there in order."""
    starts, position = [], 0
    for step in steps:
        start = solution.index(step, position)
        starts.append(start)
        position = start + len(step)
    return starts


def prefixes(solution: str, steps: Sequence[str]) -> list[str]:
    """Return the proper prefixes: after step l, `solution` up to where step l+1 begins. L-1 for L steps.

    >>> prefixes("a\\n\\nb\\nc", ["a", "b", "c"])
    ['a\\n\\n', 'a\\n\\nb\\n']
    """
    return [solution[:start] for start in step_starts(solution, steps)[1:]]
