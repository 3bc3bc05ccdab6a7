"""erprm calibrate: scored rows with rollouts or labels -> how well the scores fit them."""

from enum import StrEnum
from math import isinf, isnan
from typing import Annotated

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.streams import ResultStreams, open_streams
from erprm_cli.reports.config import FiguresConfig
from erprm_cli.rows.row import Row


class Against(StrEnum):
    labels = "labels"
    rates = "rates"


@options.grouped
def calibrate(
    streams: ResultStreams,
    figures: FiguresConfig,
    prm: options.PrmOnTheWay = None,
    prm_format: options.PrmFormatName = None,
    against: Annotated[
        Against | None,
        options.Option(
            help="Compare each score with the label of the step, or with the rate k/K of correct rollouts. "
            "Default: labels if rows have labels or --eta is given, else rates."
        ),
    ] = None,
    eta: Annotated[
        float | None,
        options.Option(
            metavar="ETA",
            help="Eta of the labels that the PRM was trained on. Labels are computed again from rollouts at "
            "ETA; for rates, scores are converted to rates. Default: labels and scores as they are.",
        ),
    ] = None,
    aggregate: options.AggregateOption = options.Aggregate.min,
    all_aggregates: options.AllAggregates = False,
    seed: options.Seed = 0,
) -> None:
    """Measure how well scores predict labels or success.

    Writes one row that compares the steps with their labels or rates, and one that compares the solutions
    with their reward: Brier score and AUC with 95 % intervals over problems, calibration error (10 bins), and
    the bins of the reliability diagram. The AUC of steps separates those with any correct rollout from those
    with none. INPUT holds rows with scores and labels or rollouts. --plot draws the reliability diagram.

    Example: erprm score labels.jsonl --prm prm | erprm calibrate --plot fit.png
    """
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.data_formats.foreign_rows import ForeignRows
    from erprm_cli.evaluation import calibration
    from erprm_cli.prm import card
    from erprm_cli.prm.scoring import ScoredRows
    from erprm_cli.reports import charts, tables
    from erprm_cli.reports.figures import check_figures, write_figures
    from erprm_cli.rows.versions import one_version

    if eta is not None and isnan(eta):
        raise UsageError("--eta nan is not a number")
    if against == Against.rates and eta is not None and isinf(eta):
        raise UsageError("no rate can be computed from a label at an infinite eta; give --against labels")
    check_figures(figures)
    settings: Row = {"command": "calibrate", "against": against, "prm": prm, "seed": seed}
    settings["eta"] = None if eta is None else f"{eta:g}"  # JSON has no inf
    settings |= {"aggregate": aggregate.value, "all_aggregates": all_aggregates}
    with open_streams("calibrate", streams, settings, atomic=True) as (bad, out, reporter):
        targets = calibration.Targets(against, eta)
        found = calibration.Calibration(targets, options.aggregates(aggregate, all_aggregates))
        checks = one_version(targets.check), one_version(targets.check_scored)
        rows = ScoredRows(prm, *checks, prm_format=prm_format, reporter=reporter)
        foreign = ForeignRows(names=FieldNames(streams.field, reporter.info))
        for row in rows.read(streams.source, bad, streams.limit, foreign):
            found.add(row)
            reporter.progress(found.count, "solutions")
        if not found.count:
            return
        at = card.trained_at(found.prm)
        if at is not None and at != (targets.eta or 0.0):  # plain rates are labels at eta 0
            reporter.warn(
                f"{found.prm} was trained on labels at eta {at:g}, but is compared with labels at eta "
                f"{targets.eta or 0.0:g}; --eta {at:g} compares like with like"
            )
        results = found.results(seed)
        result_rows = [result.row(found.prm) for result in results]
        for row in result_rows:
            out.write(row)
        reporter.info(f"{found.count:,} solutions, scores of {found.prm or 'an unnamed PRM'}")
        reporter.show(tables.calibration_table(results))
        grids = [tables.calibration_grid(results)]
        write_figures(figures, charts.calibration_chart(results), grids, result_rows, reporter)
