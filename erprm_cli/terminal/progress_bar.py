"""The progress line at the bottom of a terminal, drawn by rich and erased at the end.

Only `Reporter` loads this module, after seconds of work, because rich takes time to load.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import TextIO, cast

from rich.console import Console
from rich.control import Control
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, TextColumn
from rich.segment import ControlType

from erprm_cli.terminal.stderr import raw_stderr, redirect_stderr
from erprm_cli.terminal.text import visible

BAR_COLUMNS = 20
MIN_COLUMNS = 80  # of a terminal with a bar; on a narrower one the text has all the room
MIN_REDRAW_INTERVAL_S = 0.1  # so that many rows on the same terminal are not slowed down


class _StandardError(Console):
    """Standard error. The cursor stays visible, because a killed command could not bring it back."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


@contextmanager
def progress_bar() -> Iterator["ProgressBar"]:
    """Yield the line, which is erased at the end. What Python code writes to stderr appears above it."""
    raw = raw_stderr()
    with ProgressBar(_StandardError(file=raw)) as bar:
        above = FileProxy(bar.console, raw)
        with redirect_stderr(cast(TextIO, above)):
            yield bar
            above.flush()


class ProgressBar(Progress):
    """One line with a bar, if there is room for it, and texts."""

    def __init__(self, console: Console) -> None:
        self._bar = BarColumn(BAR_COLUMNS)
        self._text = TextColumn("{task.description}", markup=False)
        super().__init__(
            self._text,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # it carries rows
            redirect_stderr=False,  # by `progress_bar`
        )
        self._line = self.add_task("", total=1.0)
        self._drawing = RLock()
        self._drawn_s = 0.0

    def draw(self, name: str, texts: Sequence[str], share: float | None) -> None:
        """Draw a bar with `share` of it full (None: no bar) and the texts, of which the last are cut off."""
        with self._drawing:
            has_bar = share is not None and self.console.width >= MIN_COLUMNS
            self.columns = (self._bar, self._text) if has_bar else (self._text,)
            line = visible(f"{name}: {', '.join(texts)}")
            self.update(self._line, description=line, completed=share or 0.0)
            self._redraw()

    @contextmanager
    def erased(self) -> Iterator[None]:
        """Leave the line empty meanwhile, for rows on the same terminal."""
        with self._drawing:
            self.console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
            yield
            if time.monotonic() - self._drawn_s >= MIN_REDRAW_INTERVAL_S:
                self._redraw()

    def _redraw(self) -> None:
        self.refresh()
        self._drawn_s = time.monotonic()
