"""Messages for people on stderr: progress, summaries and warnings. Rows never pass here.

On a terminal, progress is one line that is redrawn; in a log, a plain line every `LOG_INTERVAL_S` seconds;
with -q there is none. Errors are not reported here: they are raised.
"""

import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from erprm_cli.terminal.stderr import raw_stderr
from erprm_cli.terminal.text import rendered, visible, wants_colour

if TYPE_CHECKING:
    from rich.console import RenderableType

LOG_WIDTH = 10_000  # columns, so that tables are not folded
LOG_INTERVAL_S = 30.0
REDRAW_INTERVAL_S = 0.2


class Reporter:
    """Reports on one command while it works; a context manager that clears its progress line."""

    def __init__(self, command: str, quiet: bool = False) -> None:
        self.command = command
        self.quiet = quiet
        self._on_terminal = sys.stderr.isatty()
        self._begin = self._shown = time.monotonic()
        self._drawn = False
        self._latest: Callable[[], str] = str  # returns the progress, for a log
        self._ended = threading.Event()
        self._log: threading.Thread | None = None

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._clear()

    def info(self, message: str) -> None:
        """Print one line, unless -q."""
        if not self.quiet:
            self._clear()
            print(f"erprm {self.command}: {visible(message)}", file=sys.stderr, flush=True)

    def show(self, drawing: "RenderableType") -> None:
        """Print a table or a plot, unless -q: coloured and folded on a terminal, plain in a log."""
        if not self.quiet:
            self._clear()
            width = shutil.get_terminal_size().columns if self._on_terminal else LOG_WIDTH
            text = rendered(drawing, width, colour=self._on_terminal and wants_colour())
            print(text, end="", file=raw_stderr(), flush=True)

    def warn(self, message: str) -> None:
        """Print a warning, even with -q: something was skipped, counted or is doubtful."""
        self._clear()
        print(f"erprm {self.command}: warning: {visible(message)}", file=sys.stderr, flush=True)

    def progress(self, done: int, unit: str, total: int | None = None, note: str = "") -> None:
        """Show how much is done (of `total`, if known); cheap enough to be called for every row."""
        if self.quiet:
            return
        self._latest = lambda: _progress_line(done, unit, total, note, self.seconds)
        now = time.monotonic()
        if not self._on_terminal:
            self._start_log()
        elif now - self._shown >= REDRAW_INTERVAL_S:
            self._shown = now
            print(f"\r\x1b[Kerprm {self.command}: {self._latest()}", end="", file=raw_stderr(), flush=True)
            self._drawn = True

    def _start_log(self) -> None:
        """Start the thread that writes the progress to a log: a count of now, also while nothing is done."""
        if self._log is None:
            self._log = threading.Thread(target=self._write_log, name="progress", daemon=True)
            self._log.start()

    def _write_log(self) -> None:
        while not self._ended.wait(LOG_INTERVAL_S):
            print(f"erprm {self.command}: {self._latest()}", file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        """Wall time since the command began."""
        return time.monotonic() - self._begin

    def _clear(self) -> None:
        if self._drawn:
            print("\r\x1b[K", end="", file=raw_stderr(), flush=True)
            self._drawn = False


def _progress_line(done: int, unit: str, total: int | None, note: str, seconds: float) -> str:
    amount = f"{done:,}" if total is None else f"{done:,}/{total:,}"
    return visible(f"{amount} {unit}, {seconds:.0f} s" + (f", {note}" if note else ""))
