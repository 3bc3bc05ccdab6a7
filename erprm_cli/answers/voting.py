"""Voting: predictions that are the same answer form one class."""

from collections.abc import Sequence
from typing import NamedTuple

from erprm_cli.answers.equality import canonical_form
from erprm_cli.answers.grader import Grader

# Per problem: the most classes that are compared with each other, and the most pairs of formulas that workers
# evaluate for it. A pair takes milliseconds, so that many long answers would take minutes over all problems.
MAX_VOTE_CLASSES = 16
MAX_VOTE_PAIRS = 16


class Classes(NamedTuple):
    """Classes of equal answers, each a list of indices, in order of first appearance."""

    members: list[list[int]]
    is_complete: bool  # all were compared as far as the grader goes; otherwise some by their text only


def group_equal(answers: Sequence[str | None], grader: Grader | None = None) -> Classes:
    """Return the classes of equal answers; None belongs to no class.

    Answers with the same canonical form are equal. A grader also merges classes whose first answers it finds
    equal: all with the largest class, then with the next one. It compares at most MAX_VOTE_CLASSES classes
    and evaluates at most MAX_VOTE_PAIRS pairs of formulas; what is left is compared as text.
    """
    by_form: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        if answer is not None:
            by_form.setdefault(canonical_form(answer), []).append(index)
    if grader is None:
        return Classes(list(by_form.values()), True)
    left = sorted(by_form.values(), key=len, reverse=True)
    left, classes = left[:MAX_VOTE_CLASSES], left[MAX_VOTE_CLASSES:]
    is_complete, pairs_left = not classes, MAX_VOTE_PAIRS
    while left:
        largest, *others = left
        verdicts = {}
        for place, other in enumerate(others):
            pair = answers[largest[0]] or "", answers[other[0]] or ""
            is_cheap = grader.is_cheap(*pair)
            if is_cheap or pairs_left:
                verdicts[place] = grader.submit(*pair)  # in parallel
                pairs_left -= not is_cheap
            else:
                is_complete = False
        equal = {place for place, verdict in verdicts.items() if verdict.equal()}
        classes.append(sum((others[place] for place in equal), largest))
        left = [other for place, other in enumerate(others) if place not in equal]
    return Classes(sorted(map(sorted, classes)), is_complete)
