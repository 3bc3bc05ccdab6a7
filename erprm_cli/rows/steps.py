"""Steps of a solution: substrings of its text, in order. A prefix is exactly the text up to a step."""

import re
from collections.abc import Sequence

from erprm_cli.rows.row import Row

STEPS_OF = ("answer", "reasoning")  # the parts of a solution that may be split into steps


def split_steps(solution: str, step_break: str) -> list[str]:
    """Return the parts between the matches of the regular expression `step_break`, stripped of whitespace.

    Empty parts are left out, but a solution without any text has one empty step.

    >>> split_steps("Step 1: 2 + 3 = 5.\\nThe answer is: 5\\n", r"\\n+")
    ['Step 1: 2 + 3 = 5.', 'The answer is: 5']
    """
    parts, begin = [], 0
    for gap in re.finditer(step_break, solution):  # re.split would return the groups of the expression too
        parts.append(solution[begin : gap.start()])
        begin = gap.end()
    parts.append(solution[begin:])
    return [step for part in parts if (step := part.strip())] or [""]


def without_end_space(steps: Sequence[str]) -> list[str]:
    """Return steps of other projects as `split_steps` would end them: a tag after a space is another token.

    >>> without_end_space(["2 + 3 = 5. ", " "])
    ['2 + 3 = 5.', ' ']
    """
    return [step.rstrip() or step for step in steps]


def stepped_text(row: Row) -> str:
    """Return the text of a row that its steps are parts of: the solution, or the reasoning before it.

    >>> stepped_text({"reasoning": "2 + 3", "solution": "5", "steps": ["2 + 3"], "steps_of": "reasoning"})
    '2 + 3'
    """
    is_reasoning = row.get("steps_of") == "reasoning"
    text: str = (row.get("reasoning") or "") if is_reasoning else row["solution"]
    return text


def step_starts(solution: str, steps: Sequence[str]) -> list[int]:
    """Return the character offset of each step. ValueError if a step is not in `solution` in order."""
    starts, position = [], 0
    for step in steps:
        start = solution.index(step, position)
        starts.append(start)
        position = start + len(step)
    return starts


def prefixes(solution: str, steps: Sequence[str]) -> list[str]:
    """Return the L - 1 proper prefixes of L steps: the text of `solution` up to where step l + 1 begins.

    >>> prefixes("a\\n\\nb\\nc", ["a", "b", "c"])
    ['a\\n\\n', 'a\\n\\nb\\n']
    """
    return [solution[:start] for start in step_starts(solution, steps)[1:]]
