"""A solution as one more rollout of each of its own prefixes, with --count-own.

It is one if it was drawn as the completions are, and if nothing was selected by its outcome. Otherwise its
reward says too much or something else, and the row is refused.
"""

from erprm_cli.errors import RowError
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import one_line

OF_A_CHOICE = ("score", "n", "aggregate", "correct")  # fields that `erprm bon` adds


def check_own(row: Row, settings: SamplingSettings) -> Row:
    """Return a solution row that counts as a rollout at `settings`. Raises RowError if it does not."""
    if all(name in row for name in OF_A_CHOICE):
        raise RowError(
            f"chosen among {row['n']} candidates by `erprm bon`, so it is not a random rollout of its "
            "prefixes; leave out --count-own"
        )
    made_with, now = row.get("sampling"), settings.row()
    if not isinstance(made_with, dict):
        raise RowError("no 'sampling', which says how it was sampled; --count-own needs it")
    for name in sorted(made_with.keys() | now.keys() - {"seed"}):
        if name != "seed" and made_with.get(name) != now.get(name):
            was, wanted = one_line(str(made_with.get(name)), 80), one_line(str(now.get(name)), 80)
            raise RowError(
                f"sampled with {name} {was}, but rollouts have {wanted}; --count-own needs the same settings"
            )
    return row
