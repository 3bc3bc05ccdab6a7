"""Voting: predictions that are the same answer form one class."""

from collections.abc import Sequence

from erprm_cli.answers.equality import canonical_form
from erprm_cli.answers.grader import Grader

MAX_VOTE_CLASSES = 16  # classes per problem that the grader compares with each other


def group_equal(answers: Sequence[str | None], grader: Grader | None = None) -> list[list[int]]:
    """Return classes of equal answers, each a list of indices, in order of first appearance.

    None belongs to no class. Answers with the same canonical form are equal. A grader also merges classes
    whose first answers it finds equal; it compares only the MAX_VOTE_CLASSES largest.
    """
    by_form: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        if answer is not None:
            by_form.setdefault(canonical_form(answer), []).append(index)
    classes: list[list[int]] = []
    for rank, indices in enumerate(sorted(by_form.values(), key=len, reverse=True)):
        same = None
        if grader is not None and rank < MAX_VOTE_CLASSES:
            first = answers[indices[0]]
            verdicts = [grader.submit(answers[one[0]] or "", first) for one in classes]  # in parallel
            pairs = zip(classes, verdicts, strict=True)
            same = next((one for one, verdict in pairs if verdict.equal()), None)
        if same is None:
            classes.append(indices)
        else:
            same.extend(indices)
    return sorted(map(sorted, classes))
