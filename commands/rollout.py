"""erprm rollout: solutions -> graded completions after every step."""

from contextlib import closing
from functools import partial
from typing import Annotated

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig


@options.grouped
def rollout(
    streams: options.ShardedStreams,
    engine: EngineConfig,
    k: Annotated[int, options.Option("-k", "--k", min=1, metavar="K", help="Completions per step.")] = 16,
    template: options.Template = None,
    chat_template_kwargs: options.ChatTemplateKwargs = None,
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = 1024,
    keep_text: Annotated[
        bool, options.Option("--keep-text", help="Also write the completions, as `completions`.")
    ] = False,
    seed: options.Seed = 0,
) -> None:
    """Complete every prefix of solutions and grade the ends.

    Adds rollouts: a list of K rewards for each step, and for the last step its own reward. INPUT holds
    solutions from `erprm sample`; the policy and the template should be those that sampled them. With -o,
    the same command continues after a stop.

    Example: erprm sample tiny:train -L 4 -n 2 | erprm rollout -k 8
    """
    from erprm_cli.answers.grader import Grader
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.data_formats.foreign_rows import ForeignRows
    from erprm_cli.engines.dry_engine import DryEngine
    from erprm_cli.engines.open import choose_engine, open_engine, provenance
    from erprm_cli.engines.plan import report_plan
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.streams import open_streams
    from erprm_cli.io.writing import open_journal
    from erprm_cli.policy.rollouts import FinishedPrefixes, Roller, check_gradable, same_origin
    from erprm_cli.policy.sampling import SamplingSettings, output_settings
    from erprm_cli.policy.template_choice import choose_template
    from erprm_cli.rows.sharding import choose_shard
    from erprm_cli.rows.streams import peek
    from erprm_cli.rows.versions import one_version
    from erprm_cli.terminal.reporter import Reporter

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
    settings |= {"k": k, "keep_text": keep_text}
    with (
        open_streams("rollout", streams, settings, dry_run=engine.dry_run) as (bad, out, reporter),
        open_journal(out, settings, overwrite=streams.overwrite) as journal,
    ):
        finished = FinishedPrefixes(k, keep_text, prompts.marks)
        done = out.solutions(finished.add_row)
        finished.add_journal(journal)
        check = one_version(partial(check_gradable, marks=prompts.marks))
        foreign = ForeignRows(names=names)
        rows = read_rows(
            streams.source, lambda row: done.check(check(row)), bad, streams.limit, foreign, reporter
        )
        rows = (row for row in rows if row["id"] in shard and (row["id"], row["sample"]) not in done)
        missing = peek(reporter.counted(rows))
        if missing is None:
            if done:
                reporter.info(f"nothing is missing: the output has {len(done):,} solutions")
            return
        with closing(open_engine(engine, reporter)) as running, Grader(bad.note) as grader:
            reporter.start("solutions")
            out.add_provenance(provenance(running, engine))
            roller = Roller(running, prompts, sampling, k, grader, keep_text, finished, journal, bad)
            for row in roller.roll(same_origin(missing, sampling, reporter)):
                out.write(row)
                tokens = reporter.rate_of(running.usage.generated_tokens, "tokens")
                reporter.progress(out.count, "solutions", note=tokens)
            tally = roller.tally
            if isinstance(running, DryEngine):
                counts = {"solutions": out.count, "shared_prefixes": tally.shared_prefixes}
                report_plan(counts | running.plan(), reporter, engine.tokens_per_s)
                return
            reporter.info(
                f"{out.count:,} solutions, {tally.completions:,} completions, "
                f"{tally.unfinished:,} unfinished (counted as wrong), "
                f"{tally.shared_prefixes:,} prefixes shared, {running.usage.summary(reporter.seconds)}"
                f"{grader.summary()}"
            )
