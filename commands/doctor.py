"""erprm doctor: what this machine can run, and why not."""

from typing import Annotated

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig


@options.grouped
def doctor(
    engine: Annotated[EngineConfig, options.Without("batch_size", "concurrency")],
    quiet: options.Quiet = False,
) -> None:
    """Print versions, devices and memory, and try each engine.

    transformers generates one token with MODEL; vLLM is only imported, unless --engine vllm asks to start it;
    a server is asked with --base-url. stdout gets one row per finding: part, state (ok, info, missing or
    failed), detail and remedy; a terminal gets a table. The exit status is 1 if an engine failed.

    Example: erprm doctor --base-url http://localhost:8000/v1
    """
    import sys

    from erprm_cli.errors import UserError
    from erprm_cli.io.writing import open_output
    from erprm_cli.reports import environment, tables
    from erprm_cli.terminal.reporter import Reporter

    found = []
    show_table = sys.stdout.isatty()
    with open_output("-", {}) as out, Reporter("doctor", quiet) as reporter:
        for finding in environment.findings(engine):
            found.append(finding)
            reporter.progress(len(found), "checks", note=finding.part)
            if not show_table:
                out.write(finding.row())
        if show_table:
            reporter.show(tables.environment_table(found))
        failed = [one.part for one in found if one.state == environment.FAILED]
    if failed:
        raise UserError(f"{', '.join(failed)}: failed; see above")
