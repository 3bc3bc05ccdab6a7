"""The queue: solutions of many requests, scored together in batches of at most so many tokens.

A batch holds the solution that has waited longest and others of about its length, so nobody waits for ever
and little is padding. While it is scored, in a thread, requests arrive and are tokenised in another thread;
all other state belongs to the event loop.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from erprm_cli.errors import EngineError, RowError, UserError
from erprm_cli.prm.scorer import Scorer, batches_by_length
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rows.row import Row
from erprm_cli.serving.errors import ApiError, overloaded
from erprm_cli.serving.metrics import Metrics

T = TypeVar("T")
Scores = list[float]

ENCODED_AT_ONCE = 64  # inputs; then another request has its turn
VLLM_BATCH_TOKENS = 262_144  # given to vLLM at once, which makes its own batches of them


@dataclass(slots=True, eq=False)
class Waiting:
    """A solution in the queue, and the future of its scores."""

    tagged: Tagged
    scores: asyncio.Future[Scores]


class Batcher:
    """Scores the solutions of many requests together."""

    def __init__(self, scorer: Scorer, max_queue: int, metrics: Metrics) -> None:
        """Prepare a queue for a loaded PRM; `max_queue` is in solutions."""
        self.scorer, self.max_queue, self.metrics = scorer, max_queue, metrics
        self.batch_tokens: int = getattr(scorer, "batch_tokens", VLLM_BATCH_TOKENS)
        self.failure: EngineError | None = None  # for which the service ends
        self._num_accepted = 0
        self._waiting: list[Waiting] = []  # in the order in which they arrived
        self._running: set[asyncio.Task[None]] = set()  # batches
        self._changed = asyncio.Event()  # what waits or runs
        self._encoding = ThreadPoolExecutor(1, "encode")
        self._scoring = ThreadPoolExecutor(1, "score")

    async def score(self, inputs: Sequence[T], encode: Callable[[T], Tagged]) -> list[Scores | RowError]:
        """Return the scores of each input, or why it cannot be scored.

        `encode` tokenises one; it runs in one thread only. Raises ApiError if the queue is full. If this is
        cancelled, what has not been scored leaves the queue.
        """
        if len(inputs) > self.max_queue:
            raise ApiError(413, f"more than {self.max_queue:,} solutions in one request; send them in parts")
        if self._num_accepted + len(inputs) > self.max_queue:
            raise overloaded(
                f"the queue is full ({self._num_accepted:,} of {self.max_queue:,} solutions); try again later"
            )
        self._accept(len(inputs))
        try:
            encoded = await self._encode(inputs, encode)
            if self.failure is not None:
                raise as_api_error(self.failure)
            answers = [asyncio.get_running_loop().create_future() for _ in encoded]
            for answer, tagged in zip(answers, encoded, strict=True):
                if isinstance(tagged, RowError):
                    answer.set_result(tagged)
                else:
                    self._waiting.append(Waiting(tagged, answer))
            self._changed.set()
            return list(await asyncio.gather(*answers))
        finally:
            self._accept(-len(inputs))

    async def work(self) -> None:
        """Score what arrives, for ever; returns after an error that ends the engine (see `failure`)."""
        while self.failure is None:
            while self._is_due() and (batch := self._next_batch()):
                task = asyncio.create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._on_scored)
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """End the threads."""
        for pool in (self._encoding, self._scoring):
            pool.shutdown(cancel_futures=True)

    def _accept(self, count: int) -> None:
        self._num_accepted += count
        self.metrics.accepted.set(self._num_accepted)

    async def _encode(self, inputs: Sequence[T], encode: Callable[[T], Tagged]) -> list[Tagged | RowError]:
        def run(part: Sequence[T]) -> list[Tagged | RowError]:
            found: list[Tagged | RowError] = []
            for one in part:
                try:
                    found.append(encode(one))
                except RowError as error:
                    found.append(error)
            return found

        encoded: list[Tagged | RowError] = []
        for begin in range(0, len(inputs), ENCODED_AT_ONCE):
            part = inputs[begin : begin + ENCODED_AT_ONCE]
            encoded += await asyncio.get_running_loop().run_in_executor(self._encoding, run, part)
        return encoded

    def _is_due(self) -> bool:
        """Return whether a batch may start: alone, or a full one behind another, so that no time is lost."""
        if len(self._running) == 1:
            return sum(len(one.tagged.ids) for one in self._waiting) >= self.batch_tokens
        return not self._running

    def _next_batch(self) -> list[Waiting]:
        """Take the batch of the solution that has waited longest out of the queue."""
        self._waiting = [one for one in self._waiting if not one.scores.done()]
        lengths = [len(one.tagged.ids) for one in self._waiting]
        chosen = next((part for part in batches_by_length(lengths, self.batch_tokens) if 0 in part), [])
        batch = [self._waiting[index] for index in chosen]
        taken = {*chosen}
        self._waiting = [one for index, one in enumerate(self._waiting) if index not in taken]
        return batch

    async def _run(self, batch: list[Waiting]) -> None:
        """Score a batch and answer those who wait for it."""
        tagged = [one.tagged for one in batch]
        begin = time.perf_counter()
        scoring = asyncio.get_running_loop().run_in_executor(self._scoring, self._score, tagged)
        await asyncio.wait([scoring])
        self._count(tagged, time.perf_counter() - begin)
        if isinstance(error := scoring.exception(), EngineError):
            self.failure = error
            batch, self._waiting = batch + self._waiting, []
        for place, one in enumerate(batch):
            found = error or scoring.result()[place]
            if one.scores.done():  # its client has gone
                continue
            if isinstance(found, BaseException):
                one.scores.set_exception(as_api_error(found))
            else:
                one.scores.set_result(found)

    def _on_scored(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()

    def _score(self, batch: list[Tagged]) -> list[Scores | UserError]:
        """Return the scores of each solution. One that fails does so alone, not with its whole batch."""
        rows: list[tuple[Row, Tagged]] = [({}, tagged) for tagged in batch]
        try:
            return [row["scores"] for row in self.scorer.score_encoded(rows)]
        except EngineError:
            raise
        except UserError as error:
            if len(batch) == 1:
                return [error]
            return [found for tagged in batch for found in self._score([tagged])]

    def _count(self, batch: list[Tagged], seconds: float) -> None:
        num_tokens = sum(len(tagged.ids) for tagged in batch)
        self.metrics.solutions.inc(len(batch))
        self.metrics.tokens.inc(num_tokens)
        self.metrics.batch_tokens.observe(num_tokens)
        self.metrics.batch_seconds.observe(seconds)


def as_api_error(error: BaseException) -> BaseException:
    """Return how a request reports an error of the PRM; a bug stays what it is."""
    if isinstance(error, EngineError):
        return overloaded(f"the engine failed: {error}")
    return ApiError(500, str(error)) if isinstance(error, UserError) else error
