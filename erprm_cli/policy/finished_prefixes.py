"""Prefixes whose completions are known: from existing rows, from a journal and from this run.

Existing rows are those of the output, if a stopped run continues, and those of INPUT, if an earlier run made
them with the same settings but another stopping rule.
"""

import os
from collections import OrderedDict
from pathlib import Path

from erprm_cli.errors import RowError
from erprm_cli.hashing import digest
from erprm_cli.io.output import Output
from erprm_cli.io.ownership import read_sidecar, sidecar
from erprm_cli.io.settings import difference
from erprm_cli.policy.reasoning import Marks, written_prefixes
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter

MAX_CACHED = 200_000  # prefixes whose rollouts are kept for later solutions, about 100 MB
# Settings of `rollout` that decide which completions are made, not what they are.
CHOOSING = ("k", "until_width", "for_eta", "for", "steps", "count_own", "keep_text", "shard", "field")

PrefixKey = tuple[str, str]  # a problem's id, and a hash of the problem, its answer and a prefix's text


def prefix_key(row: Row, text: str) -> PrefixKey:
    """Return the key of the prefix `text` of a solution: another problem under the same id has others."""
    return row["id"], digest(row["problem"], row.get("answer"), text).hex()


class FinishedPrefixes:
    """The rewards and texts of the first completions of prefixes.

    Beyond MAX_CACHED, the oldest are dropped; completing one again takes time and gives the same result.
    """

    def __init__(self, keep_text: bool = False, marks: Marks | None = None) -> None:
        """With `keep_text`, accept only prefixes with a text for each reward.

        `marks` are those of the reasoning in the template.
        """
        self.keep_text, self.marks = keep_text, marks
        # Not a dict: finding its first key takes longer, the more keys before it were deleted.
        self._found: OrderedDict[PrefixKey, tuple[list[float], list[str]]] = OrderedDict()

    def get(self, key: PrefixKey) -> tuple[list[float], list[str]]:
        """Return the rewards and the texts of a prefix; empty lists if it is unknown."""
        return self._found.get(key, ([], []))

    def add(self, key: PrefixKey, rewards: list[float], texts: list[str]) -> None:
        """Keep the rewards and texts of a prefix, unless more of them are known."""
        if self.keep_text and len(texts) != len(rewards) or len(rewards) <= len(self.get(key)[0]):
            return
        self._found[key] = rewards, texts
        if len(self._found) > MAX_CACHED:
            self._found.popitem(last=False)

    def add_row(self, row: Row, count_own: bool = False) -> Row:
        """Add the prefixes of an existing rollouts row; return the row. RowError if it is not one.

        With `count_own`, the last reward of each step is that of the solution itself.
        """
        schema.check_rollouts(schema.check_solution(row))
        completions = _check_completions(row) or [[]] * len(row["steps"])
        for text, rewards, texts in zip(
            written_prefixes(row, self.marks), row["rollouts"], completions, strict=False
        ):
            drawn = None if rewards is None else len(rewards) - count_own
            if drawn:
                self.add(prefix_key(row, text), rewards[:drawn], (texts or [])[:drawn])
        return row

    def add_journal(self, journal: Output | None) -> None:
        """Add the prefixes that an interrupted run finished before their solutions were finished."""
        for row in journal.existing(_check_prefix) if journal is not None else ():
            self.add((row["id"], row["prefix"]), row["rewards"], row["completions"])


def continued_input(source: str, settings: Row, reporter: Reporter) -> Row | None:
    """Return the settings of the run of `rollout` that made `source`, if its completions are those of now.

    They are if only settings in CHOOSING differ from `settings`. None, with a warning, if others differ; None
    also if `source` does not come from `rollout`.
    """
    if not os.path.isfile(source) or not os.path.isfile(path := sidecar(Path(source))):
        return None  # os.path, which takes any name; what is wrong with one is told when it is read
    try:
        made_with = read_sidecar(path)["settings"]
    except ValueError:  # not a sidecar of erprm
        return None
    if made_with.get("command") != "rollout":
        return None
    before, now = (
        {name: value for name, value in some.items() if name not in CHOOSING}
        for some in (made_with, settings)
    )
    found = difference(before, now)
    if found is not None:
        reporter.warn(f"the rollouts in {source} were made with {found.text}; they are made again")
        return None
    reporter.info(f"continues the rollouts in {source}")
    return dict(made_with)


def _check_prefix(row: Row) -> Row:
    """Check a row of the journal: the rewards of a prefix, and the texts if they are kept."""
    for name in ("id", "prefix"):
        schema.need(row, name, str)
    schema.check_numbers(row.get("rewards"), "'rewards'")
    if row.get("completions") != []:
        schema.check_strings(row.get("completions"), "'completions'")
    return row


def _check_completions(row: Row) -> list[list[str] | None]:
    """Return the texts of a rollouts row, a list or None per step; an empty list if they were not kept."""
    lists: list[list[str] | None] = row.get("completions") or []
    if lists and (not isinstance(lists, list) or len(lists) != len(row["steps"])):
        raise RowError("'completions' must be one list of strings per step")
    for texts, rewards in zip(lists, row["rollouts"], strict=False):
        if texts is not None or rewards is not None:
            schema.check_strings(texts, "each list in 'completions'")
    return lists
