"""erprm processbench: scored rows of ProcessBench -> how often a PRM finds the first wrong step."""

from dataclasses import replace
from typing import Annotated

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.sources import check_input
from erprm_cli.io.streams import open_side_output, open_streams
from erprm_cli.reports.config import FiguresConfig
from erprm_cli.rows.row import Row


@options.grouped
def processbench(
    streams: Annotated[options.Streams, options.Without("source", "limit")],
    figures: FiguresConfig,
    sources: Annotated[
        list[str] | None,
        options.Role.READ,
        options.Argument(
            metavar="INPUT...",
            help="JSON Lines, JSON arrays or CSV to read; - is stdin, the default.",
            show_default=False,
            rich_help_panel=options.Heading.STREAMS,
        ),
    ] = None,
    prm: options.PrmOnTheWay = None,
    prm_format: options.PrmFormatName = None,
    threshold: Annotated[
        float | None,
        options.Option(
            min=0, max=1, metavar="P", help="Steps with a score below P count as wrong. Default: 0.5."
        ),
    ] = None,
    tune_on: Annotated[
        str | None,
        options.Option(metavar="SPLIT", help="Use the threshold with the highest F1 on this split."),
    ] = None,
    oracle: Annotated[
        bool,
        options.Option("--oracle", help="Use the best threshold of each split, which gives an upper bound."),
    ] = False,
    scored: Annotated[
        str | None,
        options.Role.ROWS,
        options.Option(metavar="FILE", help="Also write the rows with their scores, to judge them again."),
    ] = None,
    limit: Annotated[
        int | None,
        options.Option(
            "--limit",
            "-L",
            min=0,
            metavar="N",
            help="Read at most N rows of each INPUT.",
            rich_help_panel=options.Heading.ROWS,
        ),
    ] = None,
) -> None:
    """Judge how well a PRM finds the first wrong step.

    Writes one row per split and one for their average: F1, which is the harmonic mean of the accuracies on
    rows with an error and on correct rows, with 95 % intervals, and the threshold. INPUT holds rows of
    ProcessBench (problem, steps, label), with scores unless --prm is given. The field split or the name of
    the file names the split. --plot draws F1 against the threshold.

    Example: erprm processbench gsm8k.json math.json --prm prm --tune-on gsm8k
    """
    if (threshold is not None) + (tune_on is not None) + oracle > 1:
        raise UsageError("--threshold, --tune-on and --oracle exclude each other; give one of them")
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.evaluation import processbench
    from erprm_cli.prm.scoring import ScoredRows
    from erprm_cli.reports import charts, tables
    from erprm_cli.reports.figures import check_figures, write_figures
    from erprm_cli.rows import schema

    check_figures(figures)
    sources = sources or ["-"]
    for source in sources:
        check_input(source)
    if tune_on is not None and prm is not None and streams.errors is None:  # not after hours of scoring
        processbench.check_split(tune_on, sources, limit)
    streams = replace(streams, source=sources[0])
    at = processbench.THRESHOLD if threshold is None else threshold
    settings: Row = {"command": "processbench", "inputs": sources, "prm": prm, "limit": limit}
    rule: Row = {"threshold": at, "tune_on": tune_on, "oracle": oracle}
    with (
        open_streams("processbench", streams, settings | rule, atomic=True) as (bad, out, reporter),
        open_side_output(scored, streams, settings) as scored_out,
    ):
        checks = schema.check_processbench, processbench.check_scored_row
        reader = ScoredRows(prm, *checks, prm_format=prm_format, reporter=reporter)
        splits, names = processbench.Splits(), FieldNames(streams.field)
        for number, source in enumerate(sources):
            reporter.part = number, len(sources)
            for row in reader.read(source, bad, limit, lambda row: (names.renamed(row),)):
                name = splits.add(row, source)
                if scored_out is not None:
                    scored_out.write(row | {"split": name})
                reporter.progress(splits.count, "rows")
        if not splits.count:
            return
        found = processbench.evaluate(splits.all(), at, tune_on, oracle)
        found_rows = [result.row(splits.prm) for result in found]
        for row in found_rows:
            out.write(row)
        reporter.info(f"{splits.count:,} rows, scores of {splits.prm or 'an unnamed PRM'}")
        for split in splits.all():
            if not all(split.counts):
                kind = "with a wrong step" if split.right else "without a wrong step"
                reporter.warn(f"{split.name} has no row {kind}, so it has no F1")
        reporter.show(tables.processbench_table(found))
        chart, grids = charts.processbench_chart(splits.all(), found), [tables.processbench_grid(found)]
        write_figures(figures, chart, grids, found_rows, reporter)
