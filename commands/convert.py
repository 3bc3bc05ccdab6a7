"""erprm convert: rows of other projects' formats to ours, and back."""

from typing import Annotated

import typer

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import open_atomic_output
from erprm_cli.terminal.reporter import Reporter


def convert(
    source: options.Source = "-",
    output: options.Target = "-",
    from_format: Annotated[
        str | None,
        typer.Option("--from", metavar="FORMAT", help="What INPUT holds; else its fields tell."),
    ] = None,
    to_format: Annotated[str, typer.Option("--to", metavar="FORMAT", help="What to write.")] = "erprm",
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Least label that is yes, where a format has yes and no alone."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Write our fields too, beside those of the format.")
    ] = False,
    problems: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Problems that the texts of INPUT may begin with."),
    ] = None,
    limit: options.Limit = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert data of other projects to rows of erprm, and back.

    Reads and writes erprm, er-prm, math-shepherd, trl and rlhflow; reads openrlhf, rlhflow-test, openr,
    prm800k, processbench, prmbench, math-aps, math-aps-tree, distilabel, dump and problem as well. A row may
    become several: one for each solution. What the format cannot carry is told on stderr.

    Example: erprm convert --to trl --threshold 0.5 labels.jsonl -o trl.jsonl
    """
    from erprm_cli.data_formats import registry
    from erprm_cli.data_formats.converter import Converter
    from erprm_cli.data_formats.problems import as_problem

    readable = [registry.ERPRM, *registry.BY_NAME, registry.PROBLEM]
    writable = [registry.ERPRM, *registry.WRITTEN]
    for flag, name, names in (("--from", from_format, readable), ("--to", to_format, writable)):
        if name is not None and name not in names:
            raise UsageError(f"{flag} {name}: there are {', '.join(names)}")
    settings = {
        "command": "convert",
        "from": from_format,
        "to": to_format,
        "threshold": threshold,
        "keep": keep,
    }
    with (
        Reporter("convert", quiet) as reporter,
        bad_rows(errors, max_errors) as bad,
        open_atomic_output(output, settings, source=source, overwrite=overwrite) as out,
    ):
        known: set[str] = set()
        if problems is not None:
            known.update(row["problem"] for row in read_rows(problems, as_problem))
        converter = Converter(from_format, to_format, threshold, keep, known)
        for row in read_rows(source, converter, bad, limit, converter.expand):
            out.write(row)
            reporter.progress(out.count, "rows")
        read = converter.foreign.summary()
        reporter.info(f"{out.count:,} rows of {to_format}" + (f" from {read}" if read else ""))
        for line in converter.notes():
            reporter.warn(line)
