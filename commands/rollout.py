"""erprm rollout: solutions -> graded completions after every step."""

from functools import partial

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError
from erprm_cli.policy.config import RolloutConfig
from erprm_cli.rows.row import Row


@options.grouped
def rollout(
    streams: options.ShardedStreams,
    engine: EngineConfig,
    choice: RolloutConfig,
    template: options.Template = None,
    chat_template_kwargs: options.ChatTemplateKwargs = None,
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = 1024,
    seed: options.Seed = 0,
) -> None:
    """Complete prefixes of solutions and grade the ends.

    Adds rollouts: a list of K rewards for each step, and for the last step its own reward. INPUT holds
    solutions from `erprm sample`; the policy and the template should be those that sampled them. With -o,
    the same command continues after a stop. If INPUT is a file that `erprm rollout` made with the same
    settings but another -k or stopping rule, its rollouts are continued. `erprm train --target counts` suits
    steps with different numbers of rollouts.

    Example: erprm sample tiny:train -L 4 -n 2 | erprm rollout -k 8
    """
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.data_formats.foreign_rows import ForeignRows
    from erprm_cli.engines.open import choose_engine
    from erprm_cli.engines.plan import report_plan
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.streams import open_streams
    from erprm_cli.io.writing import open_journal
    from erprm_cli.policy.budget import check_pilot, measure, proposal
    from erprm_cli.policy.finished_prefixes import FinishedPrefixes, continued_input
    from erprm_cli.policy.own_rollouts import check_own
    from erprm_cli.policy.rollout_run import roll_to
    from erprm_cli.policy.rollouts import check_gradable
    from erprm_cli.policy.sampling import SamplingSettings, output_settings
    from erprm_cli.policy.template_choice import choose_template
    from erprm_cli.rows.sharding import choose_shard
    from erprm_cli.rows.streams import peek
    from erprm_cli.rows.versions import one_version
    from erprm_cli.terminal.reporter import Reporter

    if choice.budget is not None and not engine.dry_run:
        raise UsageError("--budget is for --dry-run, which proposes K and the number of solutions")
    reporter = Reporter("rollout", streams.quiet)
    choose_engine(engine)  # wrong flags and names are found before anything is loaded
    begun = None if streams.overwrite else streams.output
    prompts = choose_template(template, engine, reporter, chat_template_kwargs, continued=begun)
    sampling = SamplingSettings(
        engine.model, engine.revision, temperature, top_p, max_tokens, seed, prompts.name, prompts.options()
    )
    shard = choose_shard(streams.shard, reporter)
    names = FieldNames(streams.field, reporter.info)
    settings = output_settings("rollout", sampling, engine, prompts) | shard.settings() | names.settings()
    settings |= choice.settings()
    with (
        open_streams("rollout", streams, settings, dry_run=engine.dry_run) as (bad, out, reporter),
        open_journal(out, settings, overwrite=streams.overwrite) as journal,
    ):
        foreign = ForeignRows(names=names)
        if choice.budget is not None:
            pilot = read_rows(streams.source, check_pilot, bad, streams.limit, foreign, reporter)
            report_plan(proposal(measure(pilot, prompts.marks), choice.budget), reporter)
            return
        finished = FinishedPrefixes(choice.keep_text, prompts.marks)
        done = out.solutions(partial(finished.add_row, count_own=choice.count_own))
        finished.add_journal(journal)
        earlier = continued_input(streams.source, settings, reporter)
        version = one_version(partial(check_gradable, marks=prompts.marks))

        def check(row: Row) -> Row:
            row = done.check(version(row))
            if choice.count_own:
                check_own(row, sampling)
            if earlier is not None:
                finished.add_row(row, bool(earlier.get("count_own")))
            return row

        rows = read_rows(streams.source, check, bad, streams.limit, foreign, reporter)
        rows = (row for row in rows if row["id"] in shard and (row["id"], row["sample"]) not in done)
        missing = peek(reporter.counted(rows))
        if missing is None:
            if done:
                reporter.info(f"nothing is missing: the output has {len(done):,} solutions")
            return
        roll_to(out, missing, engine, prompts, sampling, choice, reporter, finished, journal, bad)
