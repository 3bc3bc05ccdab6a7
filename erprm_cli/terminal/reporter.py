"""Messages for people on stderr: progress, summaries and warnings. Rows never pass here.

On a terminal, progress is one line that is redrawn; in a log, a plain line every `LOG_INTERVAL_S` seconds;
with -q there is none. A thread shows it, also while the command waits for a model. Errors are not reported
here: they are raised.
"""

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, TypeVar

from erprm_cli.terminal.progress import Count, Fraction, Progress
from erprm_cli.terminal.say import say
from erprm_cli.terminal.stderr import raw_stderr
from erprm_cli.terminal.text import rendered, wants_colour

if TYPE_CHECKING:
    from rich.console import RenderableType

    from erprm_cli.terminal.progress_bar import ProgressBar

T = TypeVar("T")

LOG_WIDTH = 10_000  # columns, so that tables are not folded
LOG_INTERVAL_S = 30.0
QUIET_S = 2.0  # a command that ends sooner shows no progress on a terminal
REDRAW_INTERVAL_S = 0.25


class Reporter:
    """Reports on one command while it works.

    Its progress is shown only within `with`, at the end of which the line is erased.

    part    number, from 0, of the input that is read now, and how many there are
    """

    _bar: ClassVar["ProgressBar | None"] = None  # on the terminal now

    def __init__(self, command: str, quiet: bool = False) -> None:
        self.command = command
        self.quiet = quiet
        self.part = 0, 1
        self._phase = ""
        self._on_terminal = sys.stderr.isatty()
        self._progress = Progress()
        self._shows_progress = False
        self._display: threading.Thread | None = None
        self._ended = threading.Event()  # the display

    def __enter__(self) -> "Reporter":
        self._shows_progress = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._shows_progress = False

    def info(self, message: str) -> None:
        """Print one line, unless -q."""
        if not self.quiet:
            say(message, command=self.command)

    def show(self, drawing: "RenderableType") -> None:
        """Print a table or a plot, unless -q: coloured and folded on a terminal, plain in a log."""
        if not self.quiet:
            width = shutil.get_terminal_size().columns if self._on_terminal else LOG_WIDTH
            text = rendered(drawing, width, colour=self._on_terminal and wants_colour())
            print(text, end="", file=raw_stderr(), flush=True)

    def warn(self, message: str) -> None:
        """Print a warning, even with -q: something was skipped, counted or is doubtful."""
        say(message, command=self.command, kind="warning")

    def progress(self, done: int, unit: str, total: int | None = None, note: str = "") -> None:
        """Show how much is done, of `total` or of what `watch` and `counted` tell. Call it for every row."""
        self._progress.count = Count(done, unit, total, note)
        if self._display is None and self._shows_progress and not self.quiet:
            drawn = self._on_terminal and os.environ.get("TERM") != "dumb"
            show = self._draw if drawn else self._log
            self._ended.clear()
            self._display = threading.Thread(target=show, name="progress", daemon=True)
            self._display.start()

    def stop(self) -> None:
        """Show no progress any more, until the next call of `progress`."""
        if self._display is not None:
            self._ended.set()
            self._display.join()  # the line is erased
            self._display = None

    def watch(self, fraction: Fraction) -> None:
        """Take the total from the share of the input that has been read, which `fraction` returns."""

        def of_all_parts() -> float | None:
            number, parts = self.part
            read = fraction()
            return None if read is None else (number + read) / parts

        self._progress.fraction = of_all_parts

    def counted(self, items: Iterable[T], units: Callable[[T], int] = lambda _: 1) -> Iterator[T]:
        """Yield `items`, which are still to do. Their units are counted, as they may be read long before."""
        return self._progress.counted(items, units)

    def start(self, unit: str, done: int = 0, total: int | None = None) -> None:
        """Start the clock, now that the model is loaded, and show the progress.

        `done` is what an earlier run has done, if the counts of `progress` include it.
        """
        self._progress.restart(done)
        self.progress(done, unit, total)

    def begin_phase(self, name: str) -> None:
        """Show `name` with the progress from now on, and nothing before the next call of `progress`."""
        self.stop()
        self._phase = name
        self._progress = Progress()

    @property
    def seconds(self) -> float:
        """Wall time since the command began, or since `start`."""
        return self._progress.seconds

    def rate_of(self, amount: int, unit: str) -> str:
        """Return the mean rate since `start`, such as 812 tokens/s, for the note of `progress`."""
        return f"{amount / max(self.seconds, 1e-9):,.0f} {unit}/s"

    @classmethod
    @contextmanager
    def without_bar(cls) -> Iterator[None]:
        """Erase the progress line for rows on the same terminal, and draw it again below them."""
        with nullcontext() if cls._bar is None else cls._bar.erased():
            yield

    def _texts(self) -> list[str]:
        return [*filter(None, [self._phase]), *self._progress.texts()]

    def _log(self) -> None:
        while not self._ended.wait(LOG_INTERVAL_S):
            say(", ".join(self._texts()), command=self.command)

    def _draw(self) -> None:
        if self._ended.wait(QUIET_S):
            return
        from erprm_cli.terminal.progress_bar import progress_bar  # rich takes time to load

        with progress_bar() as bar:
            Reporter._bar = bar
            try:
                while True:
                    bar.draw(f"erprm {self.command}", self._texts(), self._progress.share())
                    if self._ended.wait(REDRAW_INTERVAL_S):
                        break
            finally:
                Reporter._bar = None
