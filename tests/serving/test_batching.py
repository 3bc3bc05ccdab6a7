"""The queue: which solutions are scored together, and what happens to each when scoring fails."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from erprm_cli.errors import EngineError, RowError, UserError
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rows.row import Row
from erprm_cli.serving.batching import Batcher, Scores
from erprm_cli.serving.errors import ApiError
from erprm_cli.serving.metrics import Metrics


class LengthScorer:
    """A PRM whose score of a solution is its length; it records the lengths of its batches."""

    batch_tokens = 12

    def __init__(self, error: Callable[[list[int]], Exception | None] = lambda lengths: None) -> None:
        self.batches: list[list[int]] = []
        self.error = error

    def score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Row]:
        solutions = list(solutions)
        lengths = [len(tagged.ids) for _, tagged in solutions]
        self.batches.append(lengths)
        if (error := self.error(lengths)) is not None:
            raise error
        yield from (row | {"scores": [float(len(tagged.ids))]} for row, tagged in solutions)


def encode(length: int) -> Tagged:
    if not length:
        raise RowError("empty")
    return Tagged(np.zeros(length, np.int32), np.array([length - 1], np.int32))


def answers(scorer: LengthScorer, requests: list[list[int]], max_queue: int = 100) -> list[Any]:
    """Return what each of the requests gets, all sent before the first is scored."""

    async def run() -> list[Any]:
        batcher = Batcher(scorer, max_queue, Metrics())  # type: ignore[arg-type]
        asking = [asyncio.create_task(batcher.score(lengths, encode)) for lengths in requests]
        await asyncio.sleep(0.2)
        work = asyncio.create_task(batcher.work())
        found = await asyncio.gather(*asking, return_exceptions=True)
        work.cancel()
        batcher.close()
        return found

    return asyncio.run(run())


def test_requests_share_batches_of_at_most_so_many_tokens() -> None:
    scorer = LengthScorer()
    assert answers(scorer, [[3], [2, 4], [4], [3]]) == [[[3.0]], [[2.0], [4.0]], [[4.0]], [[3.0]]]
    assert scorer.batches == [[4, 4, 3], [3, 2]]


def test_the_solution_that_waits_longest_is_in_the_next_batch() -> None:
    scorer = LengthScorer()
    answers(scorer, [[1], [6, 6, 6, 6]])
    assert scorer.batches[0][-1] == 1


def test_a_solution_that_cannot_be_tokenised_does_not_concern_the_others() -> None:
    (found,) = answers(LengthScorer(), [[3, 0, 2]])
    assert found[0] == [3.0] and found[2] == [2.0]
    assert isinstance(found[1], RowError)


def test_a_solution_whose_scores_are_not_finite_fails_alone() -> None:
    bad = UserError("NaN or infinite scores")
    found = answers(LengthScorer(lambda lengths: bad if 3 in lengths else None), [[3], [2], [4]])
    assert found[1:] == [[[2.0]], [[4.0]]]
    assert isinstance(found[0], ApiError) and (found[0].status, str(found[0])) == (500, str(bad))


def test_a_bug_fails_its_batch_and_the_queue_goes_on() -> None:
    found = answers(LengthScorer(lambda lengths: KeyError("bug") if 9 in lengths else None), [[9], [2]])
    assert isinstance(found[0], KeyError) and found[1] == [[2.0]]


def test_when_the_engine_fails_all_that_wait_are_told() -> None:
    found = answers(LengthScorer(lambda lengths: EngineError("no GPU")), [[9], [8], [7]])
    assert [(one.status, str(one)) for one in found] == [(503, "the engine failed: no GPU")] * 3


def test_after_a_failure_of_the_engine_no_request_waits() -> None:
    async def run() -> None:
        batcher = Batcher(LengthScorer(), 9, Metrics())  # type: ignore[arg-type]
        batcher.failure = EngineError("no GPU")
        with pytest.raises(ApiError, match="the engine failed: no GPU"):
            await batcher.score([1], encode)
        batcher.close()
        await batcher.work()  # returns

    asyncio.run(run())


def test_a_full_queue_refuses_what_comes_then() -> None:
    first, second, third = answers(LengthScorer(), [[1, 2], [3, 4], [5]], max_queue=3)
    assert first == [[1.0], [2.0]] and third == [[5.0]]
    assert isinstance(second, ApiError) and second.status == 503
    assert str(second) == "the queue is full (2 of 3 solutions); try again later"
    assert second.headers == {"retry-after": "1"}


def test_a_request_larger_than_the_queue_is_told_to_come_in_parts() -> None:
    (found,) = answers(LengthScorer(), [[1] * 4], max_queue=3)
    assert isinstance(found, ApiError) and found.status == 413
    assert str(found) == "more than 3 solutions in one request; send them in parts"


def test_solutions_of_a_client_that_went_away_are_not_scored() -> None:
    scorer = LengthScorer()

    async def run() -> Any:
        batcher = Batcher(scorer, 9, Metrics())  # type: ignore[arg-type]
        going = asyncio.create_task(batcher.score([5, 6], encode))
        staying: asyncio.Task[list[Scores | RowError]] = asyncio.create_task(batcher.score([7], encode))
        await asyncio.sleep(0.2)
        going.cancel()
        await asyncio.sleep(0)
        work = asyncio.create_task(batcher.work())
        found = await staying
        work.cancel()
        batcher.close()
        return found

    assert asyncio.run(run()) == [[7.0]]
    assert scorer.batches == [[7]]


def test_a_full_batch_is_ready_when_the_one_before_it_ends() -> None:
    scorer, ready = LengthScorer(), []

    async def run() -> None:
        batcher = Batcher(scorer, 99, Metrics())  # type: ignore[arg-type]
        scorer.error = lambda lengths: time.sleep(0.3)
        asking = asyncio.create_task(batcher.score([4] * 8, encode))
        work = asyncio.create_task(batcher.work())
        await asyncio.sleep(0.1)
        ready.append(len(batcher._running))
        await asking
        work.cancel()
        batcher.close()

    asyncio.run(run())
    assert scorer.batches == [[4, 4, 4], [4, 4, 4], [4, 4]] and ready == [2]
