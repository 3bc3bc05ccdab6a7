"""The report of a dry run: one row on stdout, and lines for people."""

import sys

from erprm_cli.io.output import Output
from erprm_cli.io.writing import open_output
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter


def report_plan(
    plan: Row, reporter: Reporter, tokens_per_s: float | None = None, out: Output | None = None
) -> None:
    """Write the counts of a dry run; `tokens_per_s` turns tokens, to generate or to read, into hours.

    The row goes to `out`, or else to stdout if that is not a terminal.
    """
    for tokens, hours in (("max_generated_tokens", "max_hours"), ("tokens", "hours")):
        if tokens_per_s is not None and tokens in plan:
            plan = plan | {"tokens_per_s": tokens_per_s, hours: round(plan[tokens] / tokens_per_s / 3600, 3)}
    for name, value in plan.items():
        shown = "unknown" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)
        called = name.removesuffix("_gib").replace("_per_s", "/s").replace("_", " ")
        reporter.info(f"{called}: {shown}{' GiB' if name.endswith('_gib') else ''}")
    reporter.info("dry run: no model was run and nothing was written")
    if out is not None:
        out.write(plan)
    elif not sys.stdout.isatty():
        with open_output("-", {}) as stdout:
            stdout.write(plan)
