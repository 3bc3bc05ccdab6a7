"""Votes: predictions that mean the same answer are one class."""

from collections.abc import Sequence

from erprm_cli.answers.equality import canonical
from erprm_cli.answers.grader import Grader

MAX_VOTE_CLASSES = 16  # of one problem, compared with one another by math-verify


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
