"""Errors that the user can fix: one line on stderr and an exit status. Any other exception is a bug."""


class UserError(Exception):
    """Bad data, or a file that cannot be used. Exit status 1."""

    exit_status = 1


class UsageError(UserError):
    """A wrong flag, or flags that contradict each other. Exit status 2."""

    exit_status = 2


class EngineError(UserError):
    """The engine failed. The rows so far are kept, and running again may succeed. Exit status 4."""

    exit_status = 4


class RowError(Exception):
    """A row that cannot be used: what is wrong with it and what to do.

    `io.reading.read_rows`, which knows the row's place, raises it as a UserError or writes it to --errors.
    """


class Stopped(BaseException):
    """A signal asks the program to end. Like KeyboardInterrupt, it passes through `except Exception`."""

    def __init__(self, signal_number: int) -> None:
        self.exit_status = 128 + signal_number  # as in a shell
