"""Writes down where messages are made: FILE:LINE of each error and warning, once, to $ERPRM_MESSAGES.

Python imports a module of this name when it starts, so the programs that tests start write theirs down too.
"""

import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

TARGET = "ERPRM_MESSAGES"


def install() -> None:
    """Let errors and warnings write down where they are made."""
    from erprm_cli.errors import Explained
    from erprm_cli.terminal.reporter import Reporter

    seen: set[str] = set()

    def note(frame: FrameType | None) -> None:
        while frame is not None and isinstance(frame.f_locals.get("self"), Explained):
            frame = frame.f_back  # out of the constructors of derived classes
        if frame is None:
            return
        place = f"{os.path.realpath(frame.f_code.co_filename)}:{frame.f_lineno}\n"
        if place not in seen:
            seen.add(place)
            descriptor = os.open(os.environ[TARGET], os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, place.encode())
            os.close(descriptor)

    def recorded(method: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            note(sys._getframe(1))
            return method(self, *args, **kwargs)

        return call

    for owner, name in ((Explained, "__init__"), (Reporter, "warn")):
        setattr(owner, name, recorded(getattr(owner, name)))


if Path(os.environ.get(TARGET, "")).is_file():
    try:
        install()
    except ImportError:  # a Python without erprm
        pass
