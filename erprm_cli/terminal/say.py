"""The one way of text to stderr: a line that begins with `erprm`, and with the command that says it."""

import sys

from erprm_cli.errors import message
from erprm_cli.terminal.text import visible


def say(what: object, *, command: str = "", kind: str = "", where: object = "", remedy: str = "") -> None:
    """Print a line: who says it, of what kind (such as warning), where, what, and what to do.

    >>> import contextlib
    >>> with contextlib.redirect_stderr(sys.stdout):
    ...     say("2 rows are skipped", command="label", kind="warning", where="in.jsonl")
    erprm label: warning: in.jsonl: 2 rows are skipped
    """
    name = f"erprm {command}" if command else "erprm"
    _write(": ".join([name, *[kind] * bool(kind), visible(message(what, where, remedy))]))


def _write(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
