"""Sends where messages are made, FILE:LINE of each error, warning and note, to the socket $ERPRM_MESSAGES.

Python imports a module of this name when it starts, so the programs that tests start send theirs too.
"""

import os
import socket
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

ADDRESS = "ERPRM_MESSAGES"


def install() -> None:
    """Let errors, warnings and notes send where they are made."""
    from erprm_cli.errors import Explained
    from erprm_cli.terminal.reporter import Reporter

    address, seen = os.environ[ADDRESS], set[str]()

    def note(frame: FrameType | None) -> None:
        while frame is not None and isinstance(frame.f_locals.get("self"), Explained):
            frame = frame.f_back  # out of the constructors of derived classes
        if frame is None:
            return
        place = f"{os.path.realpath(frame.f_code.co_filename)}:{frame.f_lineno}"
        if place not in seen:
            seen.add(place)
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(place.encode(), address)

    def recorded(method: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            note(sys._getframe(1))
            return method(self, *args, **kwargs)

        return call

    for owner, name in ((Explained, "__init__"), (Reporter, "warn"), (Reporter, "info")):
        setattr(owner, name, recorded(getattr(owner, name)))


if ADDRESS in os.environ:
    with suppress(ImportError):  # a Python without erprm
        install()
