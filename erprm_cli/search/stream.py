"""Runs the searches of many problems in one stream of requests.

No problem waits for another: its next step is requested as soon as its own extensions are scored. Meanwhile
the steps of other problems fill the batch of the policy.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from erprm_cli.engines.base import LATER, Completion, Failure, Request, generate
from erprm_cli.errors import EngineError
from erprm_cli.search.extender import Extender
from erprm_cli.search.prefix import Extension, Found
from erprm_cli.search.reader import Reader
from erprm_cli.search.running import Running

# While there is other work for the policy, so many prefixes are scored together.
SCORED_TOGETHER = 64


class Finished(NamedTuple):
    """A search that has ended; `found` is None if it has an error."""

    running: Running
    found: Found | None


class Stream:
    """Searches that share the batches of a policy and of a PRM."""

    def __init__(self, searches: Iterable[Running], extender: Extender, reader: Reader) -> None:
        """Prepare to run `searches`, which are read as the engine has room for them."""
        self.extender, self.reader = extender, reader
        self._new = iter(searches)
        self._ready: deque[Request] = deque()  # for the engine
        self._in_flight = 0  # completions that are ready or at the engine
        self._complete: list[Running] = []  # rounds without scores
        self._finished: deque[Finished] = deque()

    def run(self) -> Iterator[Finished]:
        """Yield each search when it ends. What it finds depends on its own requests alone."""
        for result in generate(self.extender.engine, self._requests(), self.extender.params):
            self._take(result)
            while self._finished:
                yield self._finished.popleft()
        if self._in_flight:
            raise EngineError(
                f"the engine ended with {self._in_flight:,} completions missing; the same command requests "
                "them again"
            )
        yield from self._finished

    def _requests(self) -> Iterator[Request]:
        while True:
            if self._ready:
                yield self._ready.popleft()
            elif sum(len(search.asked) for search in self._complete) >= SCORED_TOGETHER:
                self._score()
            elif (search := next(self._new, None)) is not None:
                self._ask(search, next(search.search))
            elif self._complete:
                self._score()
            elif self._in_flight:
                yield LATER
            else:
                return

    def _ask(self, search: Running, asked: list[Extension]) -> None:
        search.ask(asked)
        self._ready.extend(self.extender.requests(search))
        self._in_flight += search.missing

    def _take(self, result: Completion | Failure) -> None:
        search = result.key
        assert isinstance(search, Running)
        if isinstance(result, Failure):
            search.error = search.error or result.error
        elif search.error is None:
            self.extender.extend(search, result)
        count = len(result.indices) if isinstance(result, Failure) else 1
        search.missing -= count
        self._in_flight -= count
        if not search.missing:
            self._complete.append(search)

    def _score(self) -> None:
        """Score the rounds that are complete, and begin the next ones."""
        complete, self._complete = self._complete, []
        self.reader.score([search for search in complete if search.error is None])
        for search in complete:
            if search.error is not None:
                self._finished.append(Finished(search, None))
                continue
            search.round += 1
            try:
                self._ask(search, search.search.send(search.answers()))
            except StopIteration as stop:
                self._finished.append(Finished(search, stop.value))
