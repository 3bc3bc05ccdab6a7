"""Flags for files with the results for people. `--help` loads this module, so it imports nothing heavy."""

from dataclasses import dataclass
from typing import Annotated

from erprm_cli.options import Heading, Option
from erprm_cli.roles import Role


@dataclass(frozen=True, slots=True)
class FiguresConfig:
    """Files beside the rows, with the results of a command for people; `figures` writes them."""

    plot: Annotated[
        str | None,
        Role.PLOT,
        Option(
            metavar="FILE",
            help="Draw the results (.png, .svg, .pdf; - draws in the terminal).",
            rich_help_panel=Heading.STREAMS,
        ),
    ] = None
    table: Annotated[
        str | None,
        Role.TABLE,
        Option(
            metavar="FILE",
            help="Write the results as a table, for a paper (.md, .tex) or with all digits (.csv).",
            rich_help_panel=Heading.STREAMS,
        ),
    ] = None
