"""Errors the user can mend: one line on stderr and an exit status. All else is a bug and a traceback."""


class UserError(Exception):
    """Bad data, or a file that cannot be used. Exit status 1."""

    exit_status = 1


class UsageError(UserError):
    """A wrong flag, or flags that do not go together. Exit status 2."""

    exit_status = 2


class EngineError(UserError):
    """The engine failed; the rows so far are kept and a re-run may succeed. Exit status 4."""

    exit_status = 4


class RowError(Exception):
    """A row that cannot be used: what is wrong with it and what to do.

    Whoever knows the row's place (`jsonl.read_rows`) turns it into a `UserError`, or writes it to --errors.
    """


class Stopped(BaseException):
    """A signal asks the program to end. Like KeyboardInterrupt, it is no Exception: nothing swallows it."""

    def __init__(self, signal_number: int) -> None:
        self.exit_status = 128 + signal_number  # as a shell reports it
