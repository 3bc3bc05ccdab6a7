"""A problem and its steps as one tagged text, the format of ER-PRM, Math-Shepherd, OpenR and RLHFlow.

    problem + " " + step 1 + " ки" + gap + step 2 + " ки" ... + step L + " ки"

A gap is the text between two steps of the solution, such as a newline, or nothing. The end of the problem is
not guessed: it follows from the problem itself if it is known, else from the only " Step 1:".
"""

import re
from collections.abc import Collection, Sequence

from erprm_cli.errors import RowError
from erprm_cli.rows.steps import step_starts

TAG = "ки"
FIRST_STEP = re.compile(r"(?<= )Step 1:")


def problem_end(text: str, problem: str | None = None, problems: Collection[str] = ()) -> int:
    """Return the length of the problem at the beginning of `text`; a space and step 1 follow it.

    `problem` is the problem if it is known, `problems` are candidates. Raises RowError if the end is unclear.
    """
    if problem is not None:
        if not text.startswith(problem + " "):
            raise RowError("the text does not begin with 'problem' and a space")
        return len(problem)
    if problems:
        ends = [match.start() for match in re.finditer(" ", text) if text[: match.start()] in problems]
        if len(ends) > 1:
            raise RowError(f"the text begins with {len(ends)} of the problems in --problems")
        if ends:
            return ends[0]
    first = text.partition(TAG)[0]
    starts = [match.start() for match in FIRST_STEP.finditer(first)]
    if len(starts) == 1:
        if not text[: starts[0]].strip():
            raise RowError("no problem before 'Step 1:'")
        return starts[0] - 1
    if not starts and FIRST_STEP.search(text):
        raise RowError(f"{TAG!r} is in the problem, before 'Step 1:', so its label belongs to no step")
    count = "no" if not starts else str(len(starts))
    raise RowError(
        f"{count} ' Step 1:' before the first label, so it is unknown where the problem ends; give the "
        "problems to `erprm convert --problems FILE`"
    )


def split_tagged(text: str) -> tuple[str, list[str]]:
    """Return the solution and the steps of a text in which every step ends with the tag; or RowError.

    >>> split_tagged("Step 1: 2 + 3 = 5. ки\\nThe answer is: 5 ки")
    ('Step 1: 2 + 3 = 5.\\nThe answer is: 5', ['Step 1: 2 + 3 = 5.', 'The answer is: 5'])
    """
    *parts, rest = text.split(TAG)
    if rest.strip():
        raise RowError(f"text after the last {TAG!r}, which is a step without a label")
    parts = [part.removesuffix(" ") for part in parts]
    steps = [part.lstrip() for part in parts]
    if not steps:
        raise RowError(f"no {TAG!r}, which must end every step")
    if "" in steps and len(steps) > 1:
        raise RowError(f"step {steps.index('') + 1} is empty: two {TAG!r} with nothing in between")
    return "".join(parts) + rest, steps


def tagged(problem: str, solution: str, steps: Sequence[str]) -> str:
    """Return the text of a problem and its steps, which `split_tagged` can read. RowError if it could not.

    >>> tagged("2 + 3?", "It is 5.\\nSo: 5", ["It is 5.", "So: 5"])
    '2 + 3? It is 5. ки\\nSo: 5 ки'
    """
    for name, value in (("problem", problem), ("solution", solution)):
        if TAG in value:
            raise RowError(f"{TAG!r} is in '{name}', where the format would read it as the end of a step")
    text, position = problem + " ", 0
    for number, (step, start) in enumerate(zip(steps, step_starts(solution, steps), strict=True), start=1):
        if solution[position:start].strip():
            raise RowError(f"'solution' has text before step {number} that is not in any step")
        text += f"{solution[position:start]}{step} {TAG}"
        position = start + len(step)
    if solution[position:].strip():
        raise RowError("'solution' has text after the last step")
    return text + solution[position:]


def signs(marked: str, text: str) -> list[str]:
    """Return the character that `marked` has in place of each tag of `text`. RowError if they differ."""
    *parts, rest = text.split(TAG)
    found, position = [], 0
    for number, part in enumerate(parts, start=1):
        position += len(part)
        if not marked.startswith(part, position - len(part)) or position >= len(marked):
            raise RowError(f"'label' differs from 'input' before label {number}")
        found.append(marked[position])
        position += 1
    if marked[position:] != rest:
        raise RowError("'label' differs from 'input' after the last label")
    return found
