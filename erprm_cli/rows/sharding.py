"""Shares of a run for machines that know nothing of each other: which ids are whose.

The n shards of an input hold each id once, whatever the order of its rows, so the outputs of all shards
together are the rows of the whole run. All rows of an id are in one shard.
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
    """Share `index` of `count`; shards are numbered 0 .. count-1, and count is another name of 0."""

    index: int = 0
    count: int = 1

    def __contains__(self, identity: str) -> bool:
        return derive_seed("shard", identity) % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def settings(self) -> Row:
        """Return what the header of an output says of it: nothing for a whole run."""
        return {"shard": str(self)} if self.count > 1 else {}


def choose_shard(
    flag: str | None, reporter: Reporter | None = None, environment: Mapping[str, str] = os.environ
) -> Shard:
    """Return the shard that --shard names, else the one of this task of a SLURM array, else the whole.

    `reporter` tells which. UsageError if the flag is no I/N, or the array's tasks do not lie side by side.
    """
    if flag is not None:
        shard, origin = parse_shard(flag), ""
    else:
        shard, origin = _array_shard(environment), ", by the SLURM array"
    if reporter is not None and shard.count > 1:
        reporter.info(f"shard {shard}{origin}; the other ids are left to the other shards")
    return shard


def parse_shard(text: str) -> Shard:
    """Return the shard I/N; I may count from 0 or from 1.

    >>> [str(parse_shard(text)) for text in ("0/3", "1/3", "3/3")]
    ['0/3', '1/3', '0/3']
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 0 <= int(index) <= int(count) != 0):
        raise UsageError(f"--shard {text!r}: give I/N with I from 0 to N-1, or from 1 to N, like 1/4")
    return Shard(int(index) % int(count), int(count))


def _array_shard(environment: Mapping[str, str]) -> Shard:
    """Return the shard of a SLURM array's task: of 0-7, 1-8 or 0-14:2 alike, eight different ones."""
    values = []
    for name in ("ID", "COUNT", "MIN", "MAX", "STEP"):
        value = environment.get(f"SLURM_ARRAY_TASK_{name}", "1" if name == "STEP" else "")
        if not value.isdecimal():
            return Shard()  # no array
        values.append(int(value))
    task, count, first, last, step = values
    step = max(step, 1)
    if (last - first) // step + 1 != count:  # as 1,3,7
        raise UsageError(
            f"the SLURM array has {count} tasks that do not lie side by side from {first} to {last}, so none "
            "can tell its share; give --shard I/N"
        )
    return Shard(task // step % count, count)
