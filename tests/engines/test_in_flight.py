import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest

from erprm_cli.engines.in_flight import Wait, in_flight


class Calls:
    """Calls that a test finishes by hand."""

    def __init__(self) -> None:
        self.futures: dict[int, Future[str]] = {}

    def start(self, number: int) -> Future[str]:
        self.futures[number] = Future()
        return self.futures[number]

    def finish(self, number: int) -> None:
        self.futures[number].set_result(f"result {number}")

    def finish_soon(self, number: int) -> None:
        """Finish a call, which may not have been started yet, while the test waits for a result."""
        threading.Timer(0.05, self.finish, [number]).start()

    def cancelled(self) -> list[int]:
        return [number for number, future in self.futures.items() if future.cancelled()]


class Numbers:
    """An endless source that counts how many numbers have been read."""

    read = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.read += 1
        return self.read


def done(number: int) -> Future[int]:
    """Return a call that has finished already."""
    future: Future[int] = Future()
    future.set_result(10 * number)
    return future


def test_results_leave_in_the_order_in_which_calls_finish() -> None:
    calls = Calls()
    results = in_flight(range(3), calls.start, depth=3)
    order = []
    for number in (2, 0, 1):
        calls.finish_soon(number)
        order.append(next(results))
    assert order == [(2, "result 2"), (0, "result 0"), (1, "result 1")]
    assert next(results, None) is None


def test_no_input_gives_no_result() -> None:
    assert list(in_flight(iter(()), done, depth=4)) == []


def test_an_input_of_none_is_an_input() -> None:
    def start(_: None) -> Future[int]:
        return done(1)

    assert list(in_flight([None, None], start, depth=1)) == [(None, 10), (None, 10)]


def test_every_input_has_one_result_and_the_depth_is_reached_and_never_exceeded() -> None:
    lock = threading.Lock()
    running = most = 0

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001 * (number % 7))
        with lock:
            running -= 1
        return 10 * number

    with ThreadPoolExecutor(32) as pool:
        results = list(in_flight(range(300), lambda number: pool.submit(work, number), depth=8))
    assert sorted(results) == [(number, 10 * number) for number in range(300)]
    assert [number for number, _ in results] != list(range(300))
    assert most == 8


def test_an_input_is_read_only_when_there_is_room_for_its_call() -> None:
    numbers = Numbers()
    calls = Calls()
    results = in_flight(numbers, calls.start, depth=4)
    calls.finish_soon(3)
    assert next(results) == (3, "result 3")
    assert numbers.read == 4
    calls.finish_soon(1)
    assert next(results) == (1, "result 1")
    assert numbers.read == 5
    results.close()


def test_a_result_leaves_before_another_input_is_read() -> None:
    numbers = Numbers()
    results = in_flight(numbers, done, depth=100)
    for number in range(1, 20):
        assert next(results) == (number, 10 * number)
        assert numbers.read == number


def test_an_input_slower_than_its_calls_holds_a_result_back_by_one_read() -> None:
    calls = Calls()

    def inputs() -> Iterator[int]:
        yield 0
        calls.finish(0)  # while the next input is being read
        yield 1
        pytest.fail("the result of the first call had to leave first")

    results = in_flight(inputs(), calls.start, depth=100)
    assert next(results) == (0, "result 0")
    assert set(calls.futures) == {0, 1}
    results.close()
    assert calls.cancelled() == [1]


def test_an_exception_of_a_call_is_raised_and_the_others_are_cancelled() -> None:
    calls = Calls()
    results = in_flight(range(4), calls.start, depth=3)
    threading.Timer(0.05, lambda: calls.futures[1].set_exception(KeyError("broken"))).start()
    with pytest.raises(KeyError, match="broken"):
        next(results)
    assert calls.cancelled() == [0, 2]
    assert next(results, None) is None


@pytest.mark.parametrize("fault", ["read", "start"])
def test_an_exception_of_an_input_or_a_start_cancels_what_is_in_flight(fault: str) -> None:
    calls = Calls()

    def inputs() -> Iterator[int]:
        yield 0
        yield 1
        if fault == "read":
            raise KeyError("broken")
        yield 2

    def start(number: int) -> Future[str]:
        if number == 2:
            raise KeyError("broken")
        return calls.start(number)

    with pytest.raises(KeyError, match="broken"):
        next(in_flight(inputs(), start, depth=3))
    assert calls.cancelled() == [0, 1]


def test_a_cancelled_call_is_not_a_result() -> None:
    calls = Calls()
    results = in_flight(range(2), calls.start, depth=2)
    threading.Timer(0.05, lambda: calls.futures[0].cancel()).start()
    with pytest.raises(CancelledError):
        next(results)
    assert calls.cancelled() == [0, 1]


def test_closing_early_cancels_what_is_in_flight_and_reads_nothing_more() -> None:
    calls = Calls()
    source = iter(range(100))
    results = in_flight(source, calls.start, depth=3)
    calls.finish_soon(0)
    assert next(results) == (0, "result 0")
    results.close()
    assert calls.cancelled() == [1, 2]
    assert next(source) == 3


def test_nothing_is_read_before_the_first_result_is_wanted() -> None:
    calls = Calls()
    results = in_flight(range(3), calls.start, depth=3)
    assert calls.futures == {}
    results.close()
    assert calls.futures == {}


def test_an_input_that_depends_on_results_is_read_after_one() -> None:
    calls, taken = Calls(), list[int]()

    def numbers() -> Iterator[int | Wait]:
        yield 0
        yield 1
        while not taken:
            yield Wait.FOR_RESULT
        yield 10 + taken[0]

    results = in_flight(numbers(), calls.start, depth=4)
    calls.finish_soon(1)
    taken.append(next(results)[0])
    calls.finish_soon(11)
    assert next(results) == (11, "result 11")  # while call 0 is still in flight
    calls.finish_soon(0)
    assert list(results) == [(0, "result 0")]


def test_with_nothing_in_flight_there_is_nothing_to_wait_for() -> None:
    assert list(in_flight([Wait.FOR_RESULT], done, depth=4)) == []
