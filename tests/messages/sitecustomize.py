"""Sends where messages are made, FILE:LINE of each, to the socket $ERPRM_MESSAGES.

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
    """Let errors, warnings, notes and other lines send where they are made."""
    from erprm_cli.errors import Explained
    from erprm_cli.terminal import say
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

    def recorded(function: Any, depth: int) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            note(sys._getframe(depth))
            return function(*args, **kwargs)

        return call

    # `say` itself may have been imported by name; what it calls is looked up each time.
    for owner, name, depth in (
        (Explained, "__init__", 1),
        (Reporter, "warn", 1),
        (Reporter, "info", 1),
        (say, "_write", 2),
    ):
        setattr(owner, name, recorded(getattr(owner, name), depth))


if ADDRESS in os.environ:
    with suppress(ImportError):  # a Python without erprm
        install()
