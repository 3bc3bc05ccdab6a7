"""One run of `erprm rollout`: the engine, the rollouts that are missing in an output, and the summary."""

from collections.abc import Iterable
from contextlib import closing

from erprm_cli.answers.grader import Grader
from erprm_cli.engines import open as opening
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.dry_engine import DryEngine
from erprm_cli.engines.plan import report_plan
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.output import Output
from erprm_cli.policy.config import RolloutConfig
from erprm_cli.policy.finished_prefixes import FinishedPrefixes
from erprm_cli.policy.rollouts import Roller, Tally, same_origin
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.policy.stopping import StoppingRule
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter


def roll_to(
    out: Output,
    solutions: Iterable[Row],
    engine: EngineConfig,
    template: PolicyTemplate,
    sampling: SamplingSettings,
    choice: RolloutConfig,
    reporter: Reporter,
    finished: FinishedPrefixes,
    journal: Output | None,
    bad: BadRows,
) -> None:
    """Write `solutions` with their rollouts to `out`, and a summary; see `Roller`.

    A dry run reports what would be asked for. It cannot know which steps a rule would stop, and counts them
    as if there were none.
    """
    rule = choice.rule()
    with closing(opening.open_engine(engine, reporter)) as running, Grader(bad.note) as grader:
        reporter.start("solutions")
        out.add_provenance(opening.provenance(running, engine))
        is_dry = isinstance(running, DryEngine)
        roller = Roller(
            running,
            template,
            sampling,
            choice.k,
            grader,
            choice.keep_text,
            finished,
            journal,
            bad,
            rule=StoppingRule() if is_dry else rule,
            next_steps=choice.next_steps(),
            count_own=choice.count_own,
        )
        for row in roller.roll(same_origin(solutions, sampling, reporter)):
            out.write(row)
            tokens = reporter.rate_of(running.usage.generated_tokens, "tokens")
            reporter.progress(out.count, "solutions", note=tokens)
        tally = roller.tally
        if isinstance(running, DryEngine):
            if rule != StoppingRule():
                reporter.info("steps that stop early need less: the counts below are the most")
            counts = {"solutions": out.count, "shared_prefixes": tally.shared_prefixes}
            report_plan(counts | running.plan(), reporter, engine.tokens_per_s)
            return
        reporter.info(
            f"{out.count:,} solutions, {tally.completions:,} completions{_saved(tally, rule, choice.k)}, "
            f"{tally.unfinished:,} unfinished (counted as wrong), "
            f"{tally.shared_prefixes:,} prefixes shared, {running.usage.summary(reporter.seconds)}"
            f"{grader.summary()}"
        )


def _saved(tally: Tally, rule: StoppingRule, k: int) -> str:
    """Return the share of completions that a rule made, of those without it."""
    if rule == StoppingRule() or not tally.prefixes:
        return ""
    return f" ({tally.completions / (tally.prefixes * k):.0%} of {k} per step)"
