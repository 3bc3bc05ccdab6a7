"""Scores prefixes by the PRM, and reads no step of a problem twice where that can be avoided."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from erprm_cli.errors import RowError, UserError
from erprm_cli.search.running import Running

if TYPE_CHECKING:
    from erprm_cli.prm.scorer import Scorer  # loads torch
    from erprm_cli.prm.tagger import Tagged


class _Place(NamedTuple):
    """An extension that gets scores: those that its search keeps under these keys, one per step."""

    search: Running
    slot: int
    keys: list[bytes]


class Reader:
    """A PRM that scores what the searches of many problems have found.

    A score depends on the token ids up to the tag of its step alone. Under these ids it is kept until the
    search ends, so equal prefixes are read once, and an engine with a prefix cache returns scores only of
    what is new.
    """

    def __init__(self, scorer: "Scorer") -> None:
        self.scorer = scorer
        self.lowest, self.highest = 1.0, 0.0  # of all scores so far

    def score(self, searches: Sequence[Running]) -> None:
        """Give the extended prefixes of `searches` their scores; an `error` if the PRM cannot read one."""
        places: list[_Place] = []
        unread: dict[tuple[Running, bytes], tuple[Tagged, list[bytes]]] = {}
        for search in searches:
            try:
                for slot, prefix in search.extended.items():
                    row = {"problem": search.problem["problem"], "steps": list(prefix.steps)}
                    tagged = self.scorer.encode(row)
                    keys = [tagged.ids[: tag + 1].tobytes() for tag in tagged.tags]
                    places.append(_Place(search, slot, keys))
                    if any(search.scores.get(key) is None for key in keys):
                        if (search, keys[-1]) not in unread:
                            _count(search, tagged, keys)
                        unread[search, keys[-1]] = tagged, keys
            except RowError as error:
                search.error = UserError(f"the PRM cannot read a prefix: {error}")
        self._read(unread)
        for search, slot, keys in places:
            values = [search.scores[key] for key in keys]
            scores = self.scorer.scored({}, values)["scores"]  # type: ignore[arg-type]  # all are read now
            self.lowest, self.highest = min(self.lowest, *scores), max(self.highest, *scores)
            search.extended[slot] = replace(search.extended[slot], scores=tuple(scores))

    def _read(self, unread: "dict[tuple[Running, bytes], tuple[Tagged, list[bytes]]]") -> None:
        """Add the scores of `unread` to those of their searches.

        What a prefix cache has is read again only if it is there because of another search.
        """
        for is_whole in (False, True):
            missing = [
                (search, tagged, keys)
                for (search, _), (tagged, keys) in unread.items()
                if any(search.scores[key] is None for key in keys)
            ]
            found = self.scorer.read([tagged for _, tagged, _ in missing], is_whole=is_whole)
            for (search, _, keys), values in zip(missing, found, strict=True):
                search.scores |= {
                    key: value for key, value in zip(keys, values, strict=True) if value is not None
                }


def _count(search: Running, tagged: "Tagged", keys: Sequence[bytes]) -> None:
    """Count the tokens of a prefix that is to be read, and mark its steps as being read."""
    if search.first_read is None:
        search.first_read = tagged.ids[:0]
    ends = [tag + 1 for tag, key in zip(tagged.tags, keys, strict=True) if key in search.scores]
    shared = min(len(search.first_read), len(tagged.ids))
    differs = np.flatnonzero(search.first_read[:shared] != tagged.ids[:shared])
    known = max([int(differs[0]) if len(differs) else shared, *ends])
    search.tokens.prm += len(tagged.ids)
    search.tokens.prm_new += len(tagged.ids) - known
    if not len(search.first_read):
        search.first_read = tagged.ids
    for key in keys:
        search.scores.setdefault(key)
