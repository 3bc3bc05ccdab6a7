"""Which steps of a solution are rolled out: all, or those that a search for its first error visits.

`found` [L-1] holds the rewards of the steps but the last, None for those that were not rolled out yet. A
function returns the indices of the steps to roll out next; none when there is nothing more to know.
"""

from collections.abc import Callable, Sequence

from erprm_cli.rows.schema import is_correct

Found = Sequence[Sequence[float] | None]
StepChoice = Callable[[Found, float], list[int]]


def all_steps(found: Found, outcome: float) -> list[int]:
    """Return every step that was not rolled out yet."""
    return [step for step, rewards in enumerate(found) if rewards is None]


def bisect(found: Found, outcome: float) -> list[int]:
    """Return the step in the middle between the last good and the first bad one, until these are neighbours.

    A step is bad if none of its completions succeeds. The first error of a wrong solution is found in about
    log2(L) steps (OmegaPRM, arXiv 2406.06592); a correct solution has none.

    >>> bisect([None, None, None], 0.0), bisect([None, [0.0, 1.0], None], 0.0)
    ([1], [2])
    >>> bisect([None, [0.0, 1.0], [0.0, 0.0]], 0.0), bisect([None, None, None], 1.0)
    ([], [])
    """
    if is_correct(outcome):
        return []
    good, bad = -1, len(found)  # the problem itself, and the last step
    while bad - good > 1:
        middle = (good + bad) // 2
        rewards = found[middle]
        if rewards is None:
            return [middle]
        if any(map(is_correct, rewards)):
            good = middle
        else:
            bad = middle
    return []


CHOICES: dict[str, StepChoice] = {"all": all_steps, "bisect": bisect}
