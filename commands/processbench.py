"""erprm processbench: scored rows of ProcessBench -> how often a PRM finds the first wrong step."""

from dataclasses import replace
from itertools import chain
from typing import Annotated

from erprm_cli import options
from erprm_cli.evaluation.config import ThresholdRule
from erprm_cli.io.sources import check_input
from erprm_cli.io.streams import ResultStreams, open_side_output, open_streams
from erprm_cli.reports.config import FiguresConfig
from erprm_cli.rows.row import Row


@options.grouped
def processbench(
    streams: Annotated[ResultStreams, options.Without("source", "limit")],
    figures: FiguresConfig,
    rule: ThresholdRule,
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
    compare: Annotated[
        list[str] | None,
        options.Role.READ,
        options.Option(metavar="FILE", help="The same rows scored by another PRM; repeatable."),
    ] = None,
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
    the file names the split. With --compare, there are also rows for each other PRM, and paired differences
    (minus names the PRM that is subtracted). --plot draws F1 against the threshold.

    Example: erprm processbench gsm8k.json math.json --prm prm --tune-on gsm8k
    """
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.evaluation import processbench
    from erprm_cli.evaluation.processbench_comparison import check_compared, evaluate_all, read_same_rows
    from erprm_cli.prm.scoring import ScoredRows
    from erprm_cli.reports import charts, tables
    from erprm_cli.reports.figures import check_figures, write_figures
    from erprm_cli.rows import schema

    check_figures(figures)
    sources, others = sources or ["-"], compare or []
    for source in (*sources, *others):
        check_input(source)
    if rule.tune_on is not None and prm is not None and streams.errors is None:  # not after hours of scoring
        processbench.check_split(rule.tune_on, sources, limit)
    for other in others if prm is not None else ():
        check_compared(other, FieldNames(streams.field), limit)
    streams = replace(streams, source=sources[0])
    at = processbench.THRESHOLD if rule.threshold is None else rule.threshold
    settings: Row = {"command": "processbench", "inputs": sources, "prm": prm, "limit": limit}
    judged_by: Row = {"threshold": at, "tune_on": rule.tune_on, "oracle": rule.oracle, "compare": compare}
    with (
        open_streams("processbench", streams, settings | judged_by, atomic=True) as (bad, out, reporter),
        open_side_output(scored, streams, settings) as scored_out,
    ):
        checks = schema.check_processbench, processbench.check_scored_row
        reader = ScoredRows(prm, *checks, prm_format=prm_format, reporter=reporter)
        splits, names = processbench.Splits(sources[0]), FieldNames(streams.field)
        for number, source in enumerate(sources):
            reporter.part = number, len(sources)
            for row in reader.read(source, bad, limit, lambda row: (names.renamed(row),)):
                name = splits.add(row, source)
                if scored_out is not None:
                    scored_out.write(row | {"split": name})
                reporter.progress(splits.count, "rows")
        if not splits.count:
            return
        compared = [splits, *(read_same_rows(other, splits, names, limit) for other in others)]
        each, differences = evaluate_all(compared, at, rule.tune_on, rule.oracle)
        found = [*chain(*each), *differences]
        found_rows = [result.row() for result in found]
        for row in found_rows:
            out.write(row)
        prms = ", ".join(results[0].prm or "an unnamed PRM" for results in each)
        reporter.info(f"{splits.count:,} rows, scores of {prms}")
        for split in splits.all():
            if not all(split.counts):
                kind = "with a wrong step" if split.right else "without a wrong step"
                reporter.warn(f"{split.name} has no row {kind}, so it has no F1")
        reporter.show(tables.processbench_table(found))
        chart = charts.processbench_chart([one.all() for one in compared], each)
        grids = tables.processbench_grids(found)
        write_figures(figures, chart, grids, found_rows, reporter)
