"""erprm rerun: a file of rows -> the run that made it, again."""

import os
import shlex
import sys
from typing import Annotated

from erprm_cli import options
from erprm_cli.terminal.reporter import Reporter


def rerun(
    file: Annotated[
        str,
        options.Role.READ,
        options.Argument(
            metavar="FILE",
            help="Rows with FILE.meta.json beside them, or the directory of an rlhf run.",
            rich_help_panel=options.Heading.STREAMS,
        ),
    ],
    output: Annotated[
        str | None,
        options.Role.ROWS,
        options.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write there instead. Default: FILE is continued.",
            rich_help_panel=options.Heading.STREAMS,
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Repeat the run that made a file.

    The last command in FILE.meta.json runs again, in this folder. Before it starts, stderr says what differs
    today: the versions of erprm and of the libraries, the commit or the files of the models, the inputs.

    Example: erprm rerun solutions.jsonl -o again.jsonl
    """
    from erprm_cli.reports.recorded_run import RecordedRun

    run = RecordedRun(file)
    words = run.words(output)
    reporter = Reporter("rerun", quiet)
    for difference in run.differences():
        reporter.warn(difference)
    reporter.info(shlex.join(["erprm", *words]))
    os.execv(sys.executable, [sys.executable, "-m", "erprm_cli", *words])  # with a command line of its own
