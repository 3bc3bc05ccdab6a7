"""erprm label: rollout rewards -> one label per step."""

from itertools import islice
from math import isnan
from typing import Annotated

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.reading import open_lines
from erprm_cli.io.streams import open_streams
from erprm_cli.labels.estimator import NAMED_ETAS, estimator_fields


@options.grouped
def label(
    streams: options.Streams,
    eta: options.Eta = None,
    estimator: options.EstimatorOption = options.Estimator.er,
    intervals: Annotated[
        bool,
        options.Option(
            "--intervals", help="Also add label_low and label_high, the 95 % interval of each label."
        ),
    ] = False,
) -> None:
    """Label every step by its entropy-regularized reward.

    Adds labels (one float per step), eta and estimator; an infinite eta is written as null, and so is the
    label of a step without rollouts. INPUT holds rollouts from `erprm rollout`, with rewards of any size,
    success rates or counts of your own (rates, or successes and trials), or MATH-APS rows with success rates
    (mc_value). Existing labels are replaced. Intervals need rewards of 0 and 1, or counts.

    Example: erprm label --eta 2 rollouts.jsonl | erprm train -o prm
    """
    from erprm_cli.labels.labeller import Labeller

    eta = _chosen_eta(eta, estimator.value)
    settings = estimator_fields(eta) | ({"intervals": True} if intervals else {})
    with open_streams("label", streams, settings, atomic=True) as (bad, out, reporter):
        names = None
        if streams.field:
            from erprm_cli.data_formats.field_names import FieldNames

            names = FieldNames(streams.field, reporter.info)
        labeller = Labeller(eta, names, intervals)

        def before_wait() -> None:
            out.flush()
            reporter.progress(labeller.rows, "rows")

        with open_lines(streams.source, bad, before_wait) as lines:
            reporter.watch(lambda: lines.share_read(labeller.rows, streams.limit))
            not_blank = islice(filter(bytes.strip, lines), streams.limit)
            out.write_lines(labeller.label(not_blank, lambda line, why: bad.add(lines.place, why, line)))
        if labeller.foreign is not None:
            labeller.foreign.report(reporter)
        reporter.info(f"{labeller.summary()}, {labeller.rows / max(reporter.seconds, 1e-9):,.0f} rows/s")


def _chosen_eta(eta: float | None, estimator: str) -> float:
    """Return the eta that --eta and --estimator name together; UsageError if they contradict."""
    named = NAMED_ETAS.get(estimator)
    if eta is not None and isnan(eta):
        raise UsageError("--eta nan is not a number; inf and -inf are the maximum and the minimum")
    if named is not None and eta is not None and eta != named:
        raise UsageError(f"--estimator {estimator} is --eta {named:g}; --eta {eta:g} needs --estimator er")
    if named is not None:
        return named
    return 1.0 if eta is None else eta
