"""erprm processbench: scored rows of ProcessBench -> how often a PRM finds the first wrong step."""

from contextlib import ExitStack
from typing import Annotated

import typer

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.writing import open_atomic_output
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter


def processbench(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="JSONL or JSON arrays to read; - is stdin.  [default: -]"),
    ] = None,
    output: options.Target = "-",
    prm: options.PrmOnTheWay = None,
    prm_format: options.PrmFormatName = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="A step with a lower score is called wrong.", show_default="0.5"),
    ] = None,
    tune_on: Annotated[
        str | None,
        typer.Option(metavar="SPLIT", help="Take the threshold with the highest F1 on this split."),
    ] = None,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Take the best threshold of each split: an upper bound.")
    ] = False,
    scored: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the rows with their scores too, to be judged again."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-L", min=0, help="Read at most this many rows of each INPUT.")
    ] = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Judge how well a PRM finds the first wrong step.

    Writes one row per split and their average: F1, the harmonic mean of the accuracies on rows with an error
    and on correct ones, with 95 % intervals, and the threshold. INPUT holds rows of ProcessBench (problem,
    steps, label) with scores, or --prm makes them; a split is named by the field split or by the file.

    Example: erprm processbench gsm8k.json math.json --prm prm --tune-on gsm8k
    """
    if (threshold is not None) + (tune_on is not None) + oracle > 1:
        raise UsageError("--threshold, --tune-on and --oracle exclude each other")
    from erprm_cli.evaluation import processbench
    from erprm_cli.prm.scoring import ScoredRows
    from erprm_cli.reports import tables

    if scored == "-" and output == "-":
        raise UsageError("figures and --scored cannot share stdout; give -o FILE or --scored FILE")
    sources = sources or ["-"]
    at = processbench.THRESHOLD if threshold is None else threshold
    settings: Row = {"command": "processbench", "inputs": sources, "prm": prm, "limit": limit}
    rule: Row = {"threshold": at, "tune_on": tune_on, "oracle": oracle}
    with (
        bad_rows(errors, max_errors) as bad,
        open_atomic_output(output, settings | rule, source=sources[0], overwrite=overwrite) as out,
        ExitStack() as stack,
        Reporter("processbench", quiet) as reporter,
    ):
        rows = None
        if scored is not None:
            rows = stack.enter_context(
                open_atomic_output(scored, settings, source=sources[0], overwrite=overwrite)
            )
        reader = ScoredRows(prm, processbench.solution, processbench.scored_solution, prm_format=prm_format)
        splits = processbench.Splits()
        for source in sources:
            for row in reader.read(source, bad, limit):
                name = splits.add(row, source)
                if rows is not None:
                    rows.write(row | {"split": name})
                reporter.progress(splits.count, "rows")
        if not splits.count:
            return
        found = processbench.evaluate(splits.all(), at, tune_on, oracle)
        for figure in found:
            out.write(figure.row(splits.prm))
        reporter.info(f"{splits.count:,} rows, scores of {splits.prm or 'an unnamed PRM'}")
        for split in splits.all():
            if not all(split.counts):
                kind = "a wrong step" if split.right else "no wrong step"
                reporter.warn(f"{split.name} has no row with {kind}, so no F1")
        reporter.show(tables.processbench_table(found))
