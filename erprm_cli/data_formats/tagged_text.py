"""One text that holds a problem and its steps, as ER-PRM, Math-Shepherd, OpenR and RLHFlow write it.

    problem + " " + step 1 + " ки" + gap + step 2 + " ки" ... + step L + " ки"

A gap is what the solution has between two steps: a newline, or nothing. Nothing is guessed: where the problem
ends is told by the problem itself if it is known, else by the one "Step 1:" after a blank.
"""

import re
from collections.abc import Collection, Sequence

from erprm_cli.errors import RowError
from erprm_cli.rows.steps import step_starts

TAG = "ки"
FIRST_STEP = re.compile(r"(?<= )Step 1:")


def problem_end(text: str, problem: str | None = None, problems: Collection[str] = ()) -> int:
    """Return how long the problem at the beginning of `text` is; after it come a blank and step 1.

    `problem` is the problem if it is known, `problems` are some that it may be. RowError if nothing tells.
    """
    if problem is not None:
        if not text.startswith(problem + " "):
            raise RowError("the text does not begin with 'problem' and a blank")
        return len(problem)
    if problems:
        ends = [match.start() for match in re.finditer(" ", text) if text[: match.start()] in problems]
        if len(ends) > 1:
            raise RowError(f"the text begins with {len(ends)} of the problems of --problems")
        if ends:
            return ends[0]
    first = text.partition(TAG)[0]
    starts = [match.start() for match in FIRST_STEP.finditer(first)]
    if len(starts) == 1:
        if not text[: starts[0]].strip():
            raise RowError("no problem before 'Step 1:'")
        return starts[0] - 1
    if not starts and FIRST_STEP.search(text):
        raise RowError(f"{TAG!r} stands in the problem, before 'Step 1:'; whose label is it?")
    count = "no" if not starts else str(len(starts))
    raise RowError(
        f"{count} ' Step 1:' before the first label, so that where the problem ends is unknown; "
        "`erprm convert --problems FILE` takes it from the problems themselves"
    )


def split_tagged(text: str) -> tuple[str, list[str]]:
    """Return the solution and the steps of a text in which every step ends with the tag.

    >>> split_tagged("Step 1: 2 + 3 = 5. ки\\nThe answer is: 5 ки")
    ('Step 1: 2 + 3 = 5.\\nThe answer is: 5', ['Step 1: 2 + 3 = 5.', 'The answer is: 5'])
    """
    *parts, rest = text.split(TAG)
    if rest.strip():
        raise RowError(f"text after the last {TAG!r}: a step without a label")
    parts = [part.removesuffix(" ") for part in parts]
    steps = [part.lstrip() for part in parts]
    if not steps:
        raise RowError(f"no {TAG!r}, which ends every step")
    if "" in steps and len(steps) > 1:
        raise RowError(f"step {steps.index('') + 1} is empty: two {TAG!r} with nothing between")
    return "".join(parts) + rest, steps


def tagged(problem: str, solution: str, steps: Sequence[str]) -> str:
    """Return the text of a problem and its steps, from which `split_tagged` gives the same again.

    >>> tagged("2 + 3?", "It is 5.\\nSo: 5", ["It is 5.", "So: 5"])
    '2 + 3? It is 5. ки\\nSo: 5 ки'
    """
    for name, value in (("problem", problem), ("solution", solution)):
        if TAG in value:
            raise RowError(f"{TAG!r} stands in '{name}': the format would take it for the end of a step")
    text, position = problem + " ", 0
    for number, (step, start) in enumerate(zip(steps, step_starts(solution, steps), strict=True), start=1):
        if solution[position:start].strip():
            raise RowError(f"'solution' has text before step {number} that is in no step")
        text += f"{solution[position:start]}{step} {TAG}"
        position = start + len(step)
    if solution[position:].strip():
        raise RowError("'solution' has text after the last step")
    return text + solution[position:]


def signs(marked: str, text: str) -> list[str]:
    """Return what stands in `marked` in place of each tag of `text`: a single character each."""
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
