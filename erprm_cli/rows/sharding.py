"""Shards: parts of a run for machines that do not communicate. The id of a row decides its shard.

Each id is in exactly one of the N shards, whatever the order of the rows, so the outputs of all shards
together are the rows of the whole run.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from erprm_cli.errors import UsageError
from erprm_cli.hashing import derive_seed
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `index` of `count`, with index from 0 to count - 1."""

    index: int = 0
    count: int = 1

    def __contains__(self, identity: str) -> bool:
        return derive_seed("shard", identity) % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def settings(self) -> Row:
        """Return the setting to record with an output: none for a whole run."""
        return {"shard": str(self)} if self.count > 1 else {}


def choose_shard(
    flag: str | None, reporter: Reporter | None = None, environment: Mapping[str, str] = os.environ
) -> Shard:
    """Return the shard that --shard names, else that of this task in a SLURM array, else the whole run.

    `reporter` says which. UsageError if the flag is not I/N, or the array indices are not evenly spaced.
    """
    if flag is not None:
        shard, origin = parse_shard(flag), ""
    else:
        shard, origin = _array_shard(environment), " (from the SLURM array)"
    if reporter is not None and shard.count > 1:
        reporter.info(f"shard {shard}{origin}; other shards process the other ids")
    return shard


def parse_shard(text: str) -> Shard:
    """Return the shard I/N; I counts from 0 or from 1, so N/N is 0/N.

    >>> [str(parse_shard(text)) for text in ("0/3", "1/3", "3/3")]
    ['0/3', '1/3', '0/3']
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 0 <= int(index) <= int(count) != 0):
        raise UsageError(f"--shard {text!r}: give I/N with I from 0 to N-1, or from 1 to N, like 1/4")
    return Shard(int(index) % int(count), int(count))


def _array_shard(environment: Mapping[str, str]) -> Shard:
    """Return the shard of this task in a SLURM array; 0-7, 1-8 and 0-14:2 all give the shards of 8."""
    values = []
    for name in ("ID", "COUNT", "MIN", "MAX", "STEP"):
        value = environment.get(f"SLURM_ARRAY_TASK_{name}", "1" if name == "STEP" else "")
        if not value.isdecimal():
            return Shard()  # not in an array
        values.append(int(value))
    task, count, first, last, step = values
    step = max(step, 1)
    if (last - first) // step + 1 != count:  # such as 1,3,7
        raise UsageError(
            f"the indices of the SLURM array are not evenly spaced ({count} tasks from {first} to {last}); "
            "give --shard I/N"
        )
    return Shard(task // step % count, count)
