"""erprm label: rollout rewards -> one label per step."""

from itertools import islice
from math import isnan

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.reading import open_lines
from erprm_cli.io.writing import open_atomic_output
from erprm_cli.labels.estimator import NAMED_ETAS, estimator_name, eta_in_row
from erprm_cli.terminal.reporter import Reporter


def label(
    source: options.Source = "-",
    output: options.Target = "-",
    eta: options.Eta = None,
    estimator: options.EstimatorOption = options.Estimator.er,
    limit: options.Limit = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Label every step by its entropy-regularized reward.

    Adds labels (one float per step), eta and estimator (er; soft, hard and min at eta 0, inf and -inf, where
    an infinite eta is null). INPUT holds rollouts as `erprm rollout` writes them, with rewards of any size,
    or the success rates of MATH-APS (mc_value). Labels that are there are replaced.

    Example: erprm label --eta 2 rollouts.jsonl | erprm train -o prm
    """
    from erprm_cli.labels.labeller import Labeller

    eta = _chosen(eta, estimator.value)
    settings = {"eta": eta_in_row(eta), "estimator": estimator_name(eta)}
    labeller = Labeller(eta)
    with (
        Reporter("label", quiet) as reporter,
        bad_rows(errors, max_errors) as bad,
        open_atomic_output(output, settings, source=source, overwrite=overwrite) as out,
    ):

        def before_wait() -> None:
            out.flush()
            reporter.progress(labeller.rows, "rows")

        with open_lines(source, bad, before_wait) as lines:
            refuse = lambda line, reason: bad.add(lines.place, reason, line)  # noqa: E731
            not_blank = islice(filter(bytes.strip, lines), limit)
            out.write_lines(labeller.label(not_blank, refuse))
        if labeller.foreign is not None:
            labeller.foreign.report(reporter)
        reporter.info(f"{labeller.summary()}, {labeller.rows / max(reporter.seconds, 1e-9):,.0f} rows/s")


def _chosen(eta: float | None, estimator: str) -> float:
    """Return the eta that --eta and --estimator ask for together."""
    named = NAMED_ETAS.get(estimator)
    if eta is not None and isnan(eta):
        raise UsageError("--eta nan is no number; inf and -inf are the maximum and the minimum")
    if named is not None and eta is not None and eta != named:
        raise UsageError(f"--estimator {estimator} is --eta {named:g}; --eta {eta:g} needs --estimator er")
    if named is not None:
        return named
    return 1.0 if eta is None else eta
