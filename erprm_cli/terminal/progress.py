"""How far a command is: what is done, the total, the rate and the time left, and the text that says so.

The total need not be known. If a share f of the input has been read and it gave b units of work, all of it
gives about b / f. Rows that an earlier run has done give no units; they are left out by counting b and f from
the first row that is still to do (`restart`).
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import floor
from typing import NamedTuple, TypeVar

T = TypeVar("T")
Fraction = Callable[[], float | None]

WINDOW_S = 60.0  # the rate is that of the last minute, or of the time that the last units took
MARK_INTERVAL_S = 1.0
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


class Count(NamedTuple):
    """What is done, in units such as "rows", of `total` if that is known; `note` is shown at the end."""

    done: int
    unit: str = ""
    total: int | None = None
    note: str = ""


class Progress:
    """The progress of one phase of a command.

    count       the latest count
    begun       units of work that the input read so far has given; 0: as many as are done
    fraction    returns the share of the input that has been read, 0 to 1; None if it is unknown
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begun = 0
        self.fraction: Fraction = lambda: None
        self.restart()

    def restart(self, done: int = 0) -> None:
        """Count the time from now: from `done` units, and from the share of the input read so far."""
        self.count = Count(done)
        self._marks = deque([(self._clock(), done)])  # when the count had grown, for the rate
        self._start_s = self._marks[0][0]
        self._begun_before = self.begun
        self._read_before = self.fraction() or 0.0

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return self._clock() - self._start_s

    def counted(self, items: Iterable[T], units: Callable[[T], int] = lambda _: 1) -> Iterator[T]:
        """Yield `items`, which are still to do, and add the units of each to `begun`."""
        for item in items:
            self.begun += units(item)
            yield item

    def total(self) -> tuple[float | None, bool]:
        """Return the number of units in all, and whether it is exact; None if nothing tells it."""
        if self.count.total is not None:
            return self.count.total, True
        read, done = self.fraction(), self.count.done
        begun = max(self.begun, done)
        if read is None or not begun:
            return None, False
        if read >= 1:
            return begun, True
        new, new_read = begun - self._begun_before, read - self._read_before
        if new <= 0 or new_read <= 0:
            return None, False
        return begun + new * (1 - read) / new_read, False

    def share(self) -> float | None:
        """Return the share of the total that is done; None if the total is unknown."""
        total, _ = self.total()
        return min(1.0, self.count.done / total) if total else None

    def rate(self) -> float:
        """Return the units per second of the last WINDOW_S, or of a longer time if nothing was done in it."""
        now, done = self._clock(), self.count.done
        marks = self._marks
        if done != marks[-1][1] and now - marks[-1][0] >= MARK_INTERVAL_S:
            marks.append((now, done))
        while len(marks) > 2 and marks[1][0] <= now - WINDOW_S and marks[1][1] < done:
            marks.popleft()
        begin_s, before = marks[0]
        return (done - before) / max(now - begin_s, 1e-9)

    def texts(self) -> list[str]:
        """Return what is to be shown, the most important first.

        >>> progress = Progress()
        >>> progress.count = Count(30, "rows", 120)
        >>> progress.texts()[0]
        '30/120 rows (25%)'
        """
        done, unit, _, note = self.count
        total, is_exact = self.total()
        rate = self.rate()
        if total is None:
            amount, left = f"{done:,} {unit}", ""
        else:
            of = f"{total:,.0f}" if is_exact else f"~{max(done, _rounded(total)):,}"
            amount = f"{done:,}/{of} {unit} ({floor(100 * done / max(total, 1))}%)"
            left = f"{duration((total - done) / rate)} left" if rate else ""
        time_text = left or f"{duration(self.seconds)} elapsed"
        return [text for text in (amount, rate_text(rate), time_text, note) if text]


def rate_text(per_s: float) -> str:
    """Return a rate in the unit of time in which it is at least 1.

    >>> rate_text(1234.5), rate_text(2.5), rate_text(0.05), rate_text(0.001), rate_text(0)
    ('1,234/s', '2.5/s', '3.0/min', '3.6/h', '')
    """
    for seconds, name in ((1, "s"), (MINUTE_S, "min"), (HOUR_S, "h")):
        rate = per_s * seconds
        if rate >= 1 or (name == "h" and rate):
            return f"{rate:,.0f}/{name}" if rate >= 10 else f"{rate:.1f}/{name}"
    return ""


def duration(seconds: float) -> str:
    """Return a time in its two largest units.

    >>> duration(8.7), duration(65), duration(7_500), duration(200_000)
    ('8 s', '1 min 5 s', '2 h 5 min', '2 d 7 h')
    """
    whole = int(seconds)
    for size, name, below, below_name in (
        (DAY_S, "d", HOUR_S, "h"),
        (HOUR_S, "h", MINUTE_S, "min"),
        (MINUTE_S, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // below} {below_name}"
    return f"{whole} s"


def _rounded(estimate: float) -> int:
    """Return an estimate with three digits, so that it does not change all the time."""
    whole = round(estimate)
    return round(whole, min(0, 3 - len(str(whole))))
