"""What commands do with the files that their flags name."""

from enum import StrEnum


class Role(StrEnum):
    """What a command does with the file or folder that a flag names; `io.ownership` checks it.

    The type of such a flag carries its role: `Annotated[str, Role.READ, Option(...)]`.
    """

    READ = "read"
    READ_BY_NAME = "read by name"  # the name of something shipped, or of a file or folder
    ROWS = "rows"  # written, as JSON Lines
    BAD_ROWS = "bad rows"
    PLOT = "plot"
    TABLE = "table"  # for a paper or a spreadsheet
    PAGE = "page"  # of HTML
    MODEL = "model"  # the folder of a trained model, written
    RUN = "run"  # the folder of a run of several phases, written
