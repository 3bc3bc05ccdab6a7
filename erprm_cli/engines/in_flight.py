"""Keep a bounded number of concurrent calls in flight while reading their inputs from an iterator."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from enum import Enum
from queue import SimpleQueue
from typing import TypeVar

Input = TypeVar("Input")
Result = TypeVar("Result")


class Wait(Enum):
    """What takes the place of an input that depends on results."""

    FOR_RESULT = "for a result"


def in_flight(
    inputs: Iterable[Input | Wait], start: Callable[[Input], Future[Result]], depth: int
) -> Generator[tuple[Input, Result], None, None]:
    """Start a call for each input and yield (input, result) in the order in which the calls finish.

    At most `depth` calls are in flight, and an input is read only when there is room for its call. A result
    leaves as soon as one is there: before another input is read, so that a slow source holds it back by one
    read at most. The first exception of a call, or of `inputs`, is raised. Calls that are still in flight
    when the generator ends, is closed or raises are cancelled.

    After Wait.FOR_RESULT, an input is read when the next result was taken. With nothing in flight, it is the
    end.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor() as pool:
    ...     sorted(in_flight([2, 3], lambda number: pool.submit(pow, number, 2), depth=2))
    [(2, 4), (3, 9)]
    """
    unread = iter(inputs)
    is_exhausted = False
    pending: dict[Future[Result], Input] = {}
    finished: SimpleQueue[Future[Result]] = SimpleQueue()
    try:
        while True:
            while not is_exhausted and len(pending) < depth:
                try:
                    item = next(unread)
                except StopIteration:
                    is_exhausted = True
                    break
                if item is Wait.FOR_RESULT:
                    break
                future = start(item)
                pending[future] = item
                future.add_done_callback(finished.put)
                if not finished.empty():
                    break
            if not pending:
                return
            future = finished.get()
            yield pending.pop(future), future.result()
    finally:
        for future in pending:
            future.cancel()
