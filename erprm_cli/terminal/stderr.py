"""stderr without control characters, whoever writes to it: models and servers choose what libraries log.

A value of a config.json reaches the terminal through a log line, a warning or a traceback of a library. So in
the `erprm` program sys.stderr itself is cleaned; only erprm's own progress line and colours pass beside it.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from erprm_cli.terminal.text import visible


class VisibleStream:
    """A text stream that removes from what is written to it all that moves the cursor, hides or colours.

    A carriage return at the beginning passes: it begins a new state of a library's progress bar.
    """

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        begin = "\r" if text.startswith("\r") else ""
        self.raw.write(begin + visible(text[len(begin) :]))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def clean_stderr() -> None:
    """Clean what this process writes to sys.stderr from now on."""
    if sys.stderr is not None and not isinstance(sys.stderr, VisibleStream):
        sys.stderr = VisibleStream(sys.stderr)


def raw_stderr() -> TextIO:
    """Return stderr for what erprm itself draws: the progress line, colours."""
    return sys.stderr.raw if isinstance(sys.stderr, VisibleStream) else sys.stderr


@contextlib.contextmanager
def redirect_stderr(target: TextIO) -> Iterator[None]:
    """Send what is written to stderr to `target` meanwhile, still cleaned if it was cleaned before."""
    stream = sys.stderr
    if not isinstance(stream, VisibleStream):
        with contextlib.redirect_stderr(target):
            yield
        return
    raw, stream.raw = stream.raw, target  # in place: the handlers of logging keep the stream
    try:
        yield
    finally:
        stream.raw = raw
