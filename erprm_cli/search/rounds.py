"""Runs the searches of many problems in rounds that share their batches.

In a round every open search gets what it asked for, and problems are added until a round has ROUND_SIZE
extensions. So there is no barrier per problem: one that is finished makes place for the next, and a batch
stays full until the last problems.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from erprm_cli.search.extender import Running
from erprm_cli.search.prefix import Found, Prefix

ROUND_SIZE = 2_048  # extensions: several times what an engine runs at once, so its slowest ones weigh little


class Finished(NamedTuple):
    """A search that has ended; `found` is None if it has an error."""

    running: Running
    found: Found | None


def run(
    searches: Iterable[Running],
    extend: Callable[[Sequence[Running]], list[list[Prefix]]],
    round_size: int = ROUND_SIZE,
) -> Iterator[Finished]:
    """Yield each search when it ends; `searches` are read as there is room in a round.

    What a search finds depends on its own requests alone, so not on `round_size`.
    """
    waiting = iter(searches)
    running: list[Running] = []
    while True:
        size = sum(len(search.asked) for search in running)
        for search in waiting if size < round_size else ():
            search.asked = next(search.search)
            running.append(search)
            size += len(search.asked)
            if size >= round_size:
                break
        if not running:
            return
        still_running = []
        for search, extended in zip(running, extend(running), strict=True):
            if search.error is not None:
                yield Finished(search, None)
                continue
            search.round += 1
            try:
                search.asked = search.search.send(extended)
                still_running.append(search)
            except StopIteration as stop:
                yield Finished(search, stop.value)
        running = still_running
