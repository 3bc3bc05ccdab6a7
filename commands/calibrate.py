"""erprm calibrate: scored rows with rollouts or labels -> how well the scores fit them."""

from enum import StrEnum
from math import isinf, isnan
from typing import Annotated

import typer

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.writing import open_atomic_output
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter


class Against(StrEnum):
    labels = "labels"
    rates = "rates"


def calibrate(
    source: options.Source = "-",
    output: options.Target = "-",
    prm: options.PrmOnTheWay = None,
    prm_format: options.PrmFormatName = None,
    against: Annotated[
        Against | None,
        typer.Option(
            help="What a step's score should be: its label, or the rate k/K of right rollouts.",
            show_default="labels if rows have them or --eta makes them",
        ),
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(
            help="The eta that the PRM was trained at: labels are made anew at it from rollouts, or against "
            "rates the scores are turned back into rates.",
            show_default="labels as they are, scores as they are",
        ),
    ] = None,
    aggregate: options.AggregateOption = options.Aggregate.min,
    all_aggregates: options.AllAggregates = False,
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw the reliability diagram (.png, .svg, .pdf)."),
    ] = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Say whether scores mean what they say.

    Writes a row for the steps against their labels or rates, and one for the solutions against their reward:
    Brier score and AUC with 95 % intervals over problems, calibration error (10 bins), and the bins of the
    reliability diagram. AUC tells steps with any right rollout from those with none. INPUT holds rows with
    scores and labels or rollouts.

    Example: erprm score labels.jsonl --prm prm | erprm calibrate --plot fit.png
    """
    from erprm_cli.evaluation import calibration
    from erprm_cli.prm import card
    from erprm_cli.prm.scoring import ScoredRows
    from erprm_cli.reports import plots, tables

    if eta is not None and isnan(eta):
        raise UsageError("--eta is not a number")
    if against == Against.rates and eta is not None and isinf(eta):
        raise UsageError("a label at an infinite eta does not tell the rate; give --against labels")
    if plot is not None:
        plots.load_figure_module()
    settings: Row = {"command": "calibrate", "against": against, "prm": prm, "seed": seed}
    settings["eta"] = None if eta is None else f"{eta:g}"  # JSON has no inf
    settings |= {"aggregate": aggregate.value, "all_aggregates": all_aggregates}
    with (
        bad_rows(errors, max_errors) as bad,
        open_atomic_output(output, settings, source=source, overwrite=overwrite) as out,
        Reporter("calibrate", quiet) as reporter,
    ):
        targets = calibration.Targets(against, eta)
        found = calibration.Calibration(targets, options.aggregates(aggregate, all_aggregates))
        rows = ScoredRows(prm, targets.check, targets.check_scored, "id", "sample", prm_format=prm_format)
        for row in rows.read(source, bad, limit):
            found.add(row)
            reporter.progress(found.count, "solutions")
        if not found.count:
            return
        at = card.trained_at(found.prm)
        if at is not None and at != (targets.eta or 0.0):  # plain rates are labels at eta 0
            reporter.warn(
                f"{found.prm} was trained at eta {at:g}, so its scores mean other labels than "
                f"these at {targets.eta or 0.0:g}; --eta {at:g} compares like with like"
            )
        judged = found.results(seed)
        for figure in judged:
            out.write(figure.row(found.prm))
        reporter.info(f"{found.count:,} solutions, scores of {found.prm or 'an unnamed PRM'}")
        reporter.show(tables.calibration_table(judged))
        if plot is not None:
            plots.plot_calibration(judged, plot)
