"""The arithmetic of progress, with a clock of the test's own."""

import doctest

import pytest

from erprm_cli.terminal import progress
from erprm_cli.terminal.progress import Count, Progress, duration, rate_text


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_examples_in_the_module_hold() -> None:
    assert doctest.testmod(progress).failed == 0


def test_rate_and_time_left_of_a_known_total() -> None:
    clock = Clock()
    shown = Progress(clock)
    clock.now += 10
    shown.count = Count(50, "rows", 200, "3 tokens/s")
    assert shown.texts() == ["50/200 rows (25%)", "5.0/s", "30 s left", "3 tokens/s"]
    assert shown.share() == 0.25


def test_without_a_total_there_are_rate_and_elapsed_time() -> None:
    clock = Clock()
    shown = Progress(clock)
    clock.now += 75
    shown.count = Count(3_000, "rows")
    assert shown.texts() == ["3,000 rows", "40/s", "1 min 15 s elapsed"]
    assert shown.share() is None


def test_the_total_follows_from_the_share_of_the_input() -> None:
    shown = Progress(Clock())
    shown.fraction = lambda: 0.25
    shown.count = Count(30, "rows")
    assert shown.total() == (120, False)
    shown.count = Count(12_345, "rows")
    assert shown.texts()[0] == "12,345/~49,400 rows (25%)"  # three digits, which change less often
    shown.fraction = lambda: 1.0
    assert shown.total() == (12_345, True)
    assert shown.texts()[0] == "12,345/12,345 rows (100%)"


@pytest.mark.parametrize(("fraction", "done"), [(None, 5), (0.0, 5), (0.5, 0), (1.0, 0)])
def test_no_total_is_made_up(fraction: float | None, done: int) -> None:
    shown = Progress(Clock())
    shown.fraction = lambda: fraction
    shown.count = Count(done, "rows")
    assert shown.total()[0] is None


def test_an_engine_that_reads_ahead_is_not_nearly_done() -> None:
    """The whole input is read before the first solution is finished: the total is what was begun."""
    shown = Progress(Clock())
    shown.fraction = lambda: 1.0
    assert list(shown.counted("abcd", lambda _: 16)) == list("abcd")
    shown.count = Count(8, "solutions")
    assert shown.total() == (64, True)
    assert shown.share() == 0.125


def test_a_continued_run_counts_only_what_is_still_to_do() -> None:
    """Of 100 rows, 60 were done before: no unit is begun by them, and no second is spent on them."""
    clock, read = Clock(), 0.0
    shown = Progress(clock)
    shown.fraction = lambda: read
    rows = shown.counted(range(40))
    next(rows)
    read = 0.61  # 60 rows that are done, and the first that is not
    clock.now += 500  # the model is loaded
    shown.restart()
    clock.now += 10
    for _ in range(9):
        next(rows)
    read = 0.70
    shown.count = Count(5, "rows")
    total, is_exact = shown.total()
    assert total == pytest.approx(40) and not is_exact
    assert shown.rate() == pytest.approx(0.5)
    assert shown.texts() == ["5/~40 rows (12%)", "30/min", "1 min 10 s left"]


def test_steps_before_a_checkpoint_are_not_part_of_the_rate() -> None:
    clock = Clock()
    shown = Progress(clock)
    shown.restart(done=900)
    clock.now += 20
    shown.count = Count(910, "steps", 1000, "loss 0.1234")
    assert shown.texts() == ["910/1,000 steps (91%)", "30/min", "3 min 0 s left", "loss 0.1234"]


def test_the_rate_is_that_of_the_last_minute() -> None:
    clock = Clock()
    shown = Progress(clock)
    for second in range(1, 301):  # 10 rows per second, then 2
        clock.now += 1
        done = 10 * min(second, 200) + 2 * max(0, second - 200)
        shown.count = Count(done, "rows", 4_000)
        shown.rate()
    assert shown.rate() == pytest.approx(2, rel=0.05)


def test_bursts_do_not_make_the_rate_zero() -> None:
    """A batch of 100 rows every 3 minutes: between two of them, the rate is not 0."""
    clock = Clock()
    shown = Progress(clock)
    for second in range(1, 540):
        clock.now += 1
        shown.count = Count(100 * (second // 180), "rows")
        if second > 200:
            assert 0.25 < shown.rate() < 0.85
    assert shown.rate() == pytest.approx(100 / 180, rel=0.5)


def test_a_run_that_hangs_is_seen_from_its_rate() -> None:
    clock = Clock()
    shown = Progress(clock)
    clock.now += 10
    shown.count = Count(100, "rows", 1_000)
    assert shown.rate() == pytest.approx(10)
    clock.now += 990
    assert shown.rate() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (3_599, "59 min 59 s"),
        (3_600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("per_s", "text"),
    [(123_456, "123,456/s"), (0.5, "30/min"), (1 / 60, "1.0/min"), (0.01, "36/h")],
)
def test_rates(per_s: float, text: str) -> None:
    assert rate_text(per_s) == text
