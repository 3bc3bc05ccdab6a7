"""erprm rollout: solutions -> graded completions after every step."""

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig


@options.grouped
def rollout(
    streams: options.ShardedStreams,
    engine: EngineConfig,
    k: Annotated[int, options.Option("-k", "--k", min=1, metavar="K", help="Completions per step.")] = 16,
    template: options.Template = "tiny",
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
    from erprm_cli.engines.open import open_engine, provenance
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.streams import open_streams
    from erprm_cli.io.writing import open_journal
    from erprm_cli.policy.rollouts import FinishedPrefixes, Roller, check_gradable
    from erprm_cli.policy.sampling import SamplingSettings
    from erprm_cli.policy.templates import load_template
    from erprm_cli.rows.sharding import choose_shard
    from erprm_cli.rows.streams import peek, unique
    from erprm_cli.terminal.reporter import Reporter

    prompts = load_template(template)
    sampling = SamplingSettings(
        engine.model, engine.revision, temperature, top_p, max_tokens, seed, prompts.name
    )
    shard = choose_shard(streams.shard, Reporter("rollout", streams.quiet))
    settings = {"command": "rollout", **asdict(sampling), "k": k, "keep_text": keep_text}
    names = FieldNames(streams.field)
    settings |= engine.settings() | shard.settings() | names.settings()
    with (
        open_streams("rollout", streams, settings) as (bad, out, reporter),
        open_journal(out, settings, overwrite=streams.overwrite) as journal,
    ):
        finished = FinishedPrefixes(k, keep_text)
        done = {(row["id"], row["sample"]) for row in map(finished.add_row, out.existing())}
        finished.add_journal(journal)
        names.tell = reporter.info
        check = unique(check_gradable, "id", "sample")
        rows = read_rows(streams.source, check, bad, streams.limit, ForeignRows(names=names))
        missing = peek(row for row in rows if row["id"] in shard and (row["id"], row["sample"]) not in done)
        if missing is None:
            if done:
                reporter.info(f"nothing is missing: the output has {len(done):,} solutions")
            return
        with (
            closing(open_engine(engine, reporter)) as running,
            Grader(bad.note) as grader,
            Reporter("rollout", streams.quiet) as progress,  # its clock starts now: loading does not count
        ):
            out.add_provenance(provenance(running, type(running).__name__))
            roller = Roller(running, prompts, sampling, k, grader, keep_text, finished, journal, bad)
            for row in roller.roll(missing):
                out.write(row)
                progress.progress(out.count, "solutions", note=running.usage.rate(progress.seconds))
            tally = roller.tally
            progress.info(
                f"{out.count:,} solutions, {tally.completions:,} completions, "
                f"{tally.unfinished:,} unfinished (counted as wrong), "
                f"{tally.shared_prefixes:,} prefixes shared, {running.usage.summary(progress.seconds)}"
                f"{grader.summary()}"
            )
