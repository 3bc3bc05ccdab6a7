"""erprm convert: rows of other projects' formats to ours, and back."""

from typing import Annotated

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.reading import read_rows
from erprm_cli.io.streams import open_streams


def format_names(incomplete: str) -> list[str]:
    """Return the completions of the name of a format that is read."""
    from erprm_cli.data_formats.registry import BY_NAME

    return [name for name in BY_NAME if name.startswith(incomplete)]


def written_format_names(incomplete: str) -> list[str]:
    """Return the completions of the name of a format that is written."""
    from erprm_cli.data_formats.registry import WRITTEN

    return [name for name in WRITTEN if name.startswith(incomplete)]


@options.grouped
def convert(
    streams: options.Streams,
    from_format: Annotated[
        str | None,
        options.Option(
            "--from",
            metavar="FORMAT",
            help="Format of INPUT. Default: detected from the fields of each row.",
            autocompletion=format_names,
        ),
    ] = None,
    to_format: Annotated[
        str,
        options.Option(
            "--to", metavar="FORMAT", help="Format of the output.", autocompletion=written_format_names
        ),
    ] = "erprm",
    threshold: Annotated[
        float | None,
        options.Option(
            min=0,
            max=1,
            metavar="P",
            help="Labels at or above P become yes in formats that store only yes or no.",
        ),
    ] = None,
    keep: Annotated[
        bool, options.Option("--keep", help="Also write the fields of erprm, beside those of the format.")
    ] = False,
    problems: Annotated[
        str | None,
        options.Role.READ,
        options.Option(
            metavar="FILE",
            help="Known problems, for formats whose texts begin with the problem and do not mark its end.",
        ),
    ] = None,
) -> None:
    """Convert data of other projects to rows of erprm, and back.

    Reads and writes erprm, er-prm, math-shepherd, trl and rlhflow; reads openrlhf, rlhflow-test, openr,
    prm800k, processbench, prmbench, math-aps, math-aps-tree, distilabel, dump and problem as well. A row may
    become several: one per solution. What the output format has no place for is listed on stderr.

    Example: erprm convert --to trl --threshold 0.5 labels.jsonl -o trl.jsonl
    """
    from erprm_cli.data_formats import registry
    from erprm_cli.data_formats.converter import Converter
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.data_formats.problems import as_problem

    readable = [registry.ERPRM, *registry.BY_NAME, registry.PROBLEM]
    writable = [registry.ERPRM, *registry.WRITTEN]
    for flag, name, names in (("--from", from_format, readable), ("--to", to_format, writable)):
        if name is not None and name not in names:
            raise UsageError(f"unknown format {flag} {name}; known formats: {', '.join(names)}")
    settings = {
        "command": "convert",
        "from": from_format,
        "to": to_format,
        "threshold": threshold,
        "keep": keep,
    }
    with open_streams("convert", streams, settings, atomic=True) as (bad, out, reporter):
        known: set[str] = set()
        if problems is not None:
            known.update(row["problem"] for row in read_rows(problems, as_problem))
        fields = FieldNames(streams.field, reporter.info)
        converter = Converter(from_format, to_format, threshold, keep, known, fields)
        for row in read_rows(streams.source, converter, bad, streams.limit, converter.expand, reporter):
            out.write(row)
            reporter.progress(out.count, "rows")
        read = converter.foreign.summary()
        reporter.info(f"{out.count:,} rows of {to_format}" + (f" from {read}" if read else ""))
        for line in converter.notes():
            reporter.warn(line)
