"""Errors that the user can fix: one line on stderr and an exit status. Any other exception is a bug."""

MAX_MESSAGE = 1_500  # characters: names and values that it quotes may come from strangers
MAX_MESSAGE_END = 500  # of them from the end, where the remedy is


def message(what: object, where: object = "", remedy: str = "") -> str:
    """Return the one line that every error is: where it happened, what is wrong, what to do.

    A remedy after one that `what` already names begins a new sentence. A very long line loses its middle.

    >>> message("no 'scores'; `erprm score` writes them", "in.jsonl:3", "--errors FILE goes on")
    "in.jsonl:3: no 'scores'; `erprm score` writes them. --errors FILE goes on"
    """
    place, text = f"{where}: " if where else "", str(what)
    line = place + text
    if remedy:
        line += f"{'. ' if '; ' in text else '; '}{remedy}"
    if len(line) <= MAX_MESSAGE:
        return line
    return f"{line[: MAX_MESSAGE - MAX_MESSAGE_END]} ... {line[-MAX_MESSAGE_END:]}"


class Explained(Exception):
    """An error that is its `message`."""

    def __init__(self, what: object, *, where: object = "", remedy: str = "") -> None:
        super().__init__(message(what, where, remedy))


class UserError(Explained):
    """Bad data, or a file that cannot be used. Exit status 1."""

    exit_status = 1


class UsageError(UserError):
    """A wrong flag, or flags that contradict each other. Exit status 2."""

    exit_status = 2


class EngineError(UserError):
    """The engine failed. The rows so far are kept, and running again may succeed. Exit status 4."""

    exit_status = 4
    kept_in: str | None = None  # the file that keeps the rows so far


class RowError(Explained):
    """A row that cannot be used: what is wrong with it and what to do.

    `io.reading.read_rows`, which knows the row's place, raises it as a UserError or writes it to --errors.
    """


class Stopped(BaseException):
    """A signal asks the program to end. Like KeyboardInterrupt, it passes through `except Exception`.

    SIGPIPE stands for a stdout that nobody reads any more, of which Python makes an error and no signal.
    """

    kept_in: str | None = None  # as in EngineError

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number  # as in a shell
