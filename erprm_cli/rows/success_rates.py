"""Success rates of steps: of rollouts, or brought by people as rates or counts."""

from erprm_cli.rows import schema
from erprm_cli.rows.row import Row

OWN_RATES = ("rates", "successes", "trials")


def has_success_rates(row: Row) -> bool:
    """Return whether a row has success rates or counts of its own.

    >>> has_success_rates({"rates": [0.5]}), has_success_rates({"labels": [0.5]})
    (True, False)
    """
    return any(row.get(name) is not None for name in OWN_RATES)


def success_rates(row: Row) -> list[float]:
    """Return `rates`, or `successes` divided by `trials`: one number in [0, 1] per step.

    Raises RowError if they are missing or invalid.

    >>> success_rates({"successes": [4, 1], "trials": 4})
    [1.0, 0.25]
    """
    if row.get("rates") is not None:
        return [float(rate) for rate in schema.check_rates(row)["rates"]]
    return [wins / trials for wins, trials in zip(*success_counts(row), strict=True)]


def success_counts(row: Row) -> tuple[list[int], list[int]]:
    """Return `successes` and `trials`, one number each per step. `trials` may be one number for all steps.

    Raises RowError if they are missing or invalid.
    """
    trials = row.get("trials")
    if isinstance(trials, int) and isinstance(row.get("successes"), list):
        row = row | {"trials": [trials] * len(row["successes"])}
    schema.check_counts(row)
    return row["successes"], row["trials"]
