"""Scores prefixes by the PRM, and reads no step of a problem twice where that can be avoided."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from erprm_cli.errors import RowError, UserError
from erprm_cli.rows.row import Row
from erprm_cli.search.prefix import Prefix
from erprm_cli.search.running import Running

if TYPE_CHECKING:
    from erprm_cli.prm.step_scorer import StepScorer
    from erprm_cli.prm.tagger import Tagged


class _Place(NamedTuple):
    """An extension that gets scores: those that its search keeps under these keys, one per step."""

    search: Running
    slot: int
    keys: list[bytes]


class _Unread(NamedTuple):
    """A prefix of a search that has steps without a score."""

    search: Running
    row: Row
    tagged: "Tagged"
    keys: list[bytes]


class Reader:
    """A PRM that scores what the searches of many problems have found.

    A score depends on the token ids up to the tag of its step alone. Under these ids it is kept until the
    search ends, so equal prefixes are read once, and an engine that goes on from what it has read returns
    scores only of what is new.
    """

    def __init__(self, scorer: "StepScorer") -> None:
        self.scorer = scorer
        self.lowest, self.highest = 1.0, 0.0  # of all scores so far

    def score(self, searches: Sequence[Running]) -> None:
        """Give the extended prefixes of `searches` their scores; an `error` if the PRM cannot read one."""
        places: list[_Place] = []
        unread: dict[tuple[Running, bytes], _Unread] = {}
        for search in searches:
            try:
                for slot, prefix in sorted(search.extended.items()):  # not as they happened to end
                    row = {"problem": search.problem["problem"], "steps": list(prefix.steps)}
                    tagged = self.scorer.encode(row)
                    keys = _keys(prefix, tagged)
                    places.append(_Place(search, slot, keys))
                    if any(search.scores.get(key) is None for key in keys):
                        if (search, keys[-1]) not in unread:
                            _count(search, tagged, keys)
                        unread[search, keys[-1]] = _Unread(search, row, tagged, keys)
            except RowError as error:
                _fail(search, error)
        self._read(list(unread.values()))
        for search, slot, keys in places:
            if search.error is None:
                values = [search.scores[key] for key in keys]
                scores = self.scorer.scored({}, values)["scores"]  # type: ignore[arg-type]  # all are read
                self.lowest, self.highest = min(self.lowest, *scores), max(self.highest, *scores)
                search.extended[slot] = replace(search.extended[slot], scores=tuple(scores))

    def _read(self, unread: Sequence[_Unread]) -> None:
        """Add the scores of `unread` to those of their searches.

        Steps that the scorer leaves out because it has read them for another search are read again.
        """
        searches = {id(one.row): one.search for one in unread}
        self.scorer.on_failure = lambda row, error: _fail(searches[row["search"]], error)
        for is_whole in (False, True):
            missing = [
                one
                for one in unread
                if one.search.error is None and any(one.search.scores[key] is None for key in one.keys)
            ]
            rows = [(one.row | {"search": id(one.row)}, one.tagged) for one in missing]
            for one, scores in zip(missing, self.scorer.read(rows, is_whole=is_whole), strict=True):
                found = zip(one.keys, scores, strict=False)  # none if the scorer failed
                one.search.scores |= {key: score for key, score in found if score is not None}


class DryReader(Reader):
    """Gives every step the same score, with --dry-run: what the policy would write cannot be read."""

    def score(self, searches: Sequence[Running]) -> None:
        """Give the extended prefixes of `searches` their scores."""
        for search in searches:
            for slot, prefix in search.extended.items():
                search.extended[slot] = replace(prefix, scores=(0.5,) * len(prefix.steps))


def _fail(search: Running, error: Exception) -> None:
    search.error = search.error or UserError(f"the PRM cannot read a prefix: {error}")


def _keys(prefix: Prefix, tagged: "Tagged") -> list[bytes]:
    """Return a key for each step: the token ids up to its tag, or the texts if only a server has the ids."""
    if len(tagged.ids):
        return [tagged.ids[: tag + 1].tobytes() for tag in tagged.tags]
    return [repr(prefix.steps[: count + 1]).encode() for count in range(len(prefix.steps))]


def _shared(one: NDArray[np.int32], other: NDArray[np.int32]) -> int:
    """Return how many tokens two prefixes begin with in common."""
    size = min(len(one), len(other))
    differs = np.flatnonzero(one[:size] != other[:size])
    return int(differs[0]) if len(differs) else size


def _count(search: Running, tagged: "Tagged", keys: Sequence[bytes]) -> None:
    """Count the tokens of a prefix that is to be read, and mark its steps as being read."""
    if len(tagged.ids):
        known = [int(tag) + 1 for tag, key in zip(tagged.tags, keys, strict=True) if key in search.scores]
        if search.first_read is None:
            search.first_read = tagged.ids
        else:
            known.append(_shared(search.first_read, tagged.ids))
        search.tokens.prm += len(tagged.ids)
        search.tokens.prm_new += len(tagged.ids) - max(known, default=0)
    for key in keys:
        search.scores.setdefault(key)
