"""erprm rollout: solutions -> graded completions after every step."""

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig


@options.grouped
def rollout(
    source: options.Source = "-",
    output: options.Target = "-",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Completions after each step.")] = 16,
    template: options.Template = "tiny",
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = 1024,
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Keep the completions too, as `completions`.")
    ] = False,
    seed: options.Seed = 0,
    *,
    engine: EngineConfig,
    limit: options.Limit = None,
    shard: options.Shard = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Complete every prefix of solutions and grade the ends.

    Adds rollouts: for each step a list of K rewards, and for the last step its own reward. INPUT holds
    solutions as `erprm sample` writes them; the policy and template should be those that sampled them.

    Example: erprm sample tiny:train -L 4 -n 2 | erprm rollout -k 8
    """
    from erprm_cli.answers.grader import Grader
    from erprm_cli.engines.open import open_engine, provenance
    from erprm_cli.io.bad_rows import bad_rows
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.writing import open_journal, open_output
    from erprm_cli.policy.rollouts import FinishedPrefixes, Roller, gradable
    from erprm_cli.policy.sampling import SamplingSettings
    from erprm_cli.policy.templates import load_template
    from erprm_cli.rows.sharding import choose_shard
    from erprm_cli.rows.streams import peek, unique
    from erprm_cli.terminal.reporter import Reporter

    recipe = load_template(template)
    drawn = SamplingSettings(engine.model, engine.revision, temperature, top_p, max_tokens, seed, recipe.name)
    settings = {"command": "rollout", **asdict(drawn), "k": k, "keep_text": keep_text, **engine.settings()}
    share = choose_shard(shard, Reporter("rollout", quiet))
    settings |= share.settings()
    with (
        bad_rows(errors, max_errors) as bad,
        open_output(output, settings, source=source, overwrite=overwrite) as out,
        open_journal(out, settings, overwrite=overwrite) as journal,
    ):
        finished = FinishedPrefixes(k, keep_text)
        done = {(row["id"], row["sample"]) for row in map(finished.add_row, out.existing())}
        finished.add_journal(journal)
        rows = read_rows(source, unique(gradable, "id", "sample"), bad, limit)
        solutions = peek(row for row in rows if row["id"] in share and (row["id"], row["sample"]) not in done)
        if solutions is None:
            if done:
                Reporter("rollout", quiet).info(f"nothing is missing: {len(done):,} solutions were there")
            return
        with (
            closing(open_engine(engine, Reporter("rollout", quiet))) as running,
            Grader(bad.note) as grader,
            Reporter("rollout", quiet) as reporter,
        ):
            out.made_with(provenance(running, type(running).__name__))
            roller = Roller(running, recipe, drawn, k, grader, keep_text, finished, journal)
            for row in roller.roll(solutions):
                out.write(row)
                reporter.progress(out.count, "solutions", note=running.usage.rate(reporter.seconds))
            tally = roller.tally
            reporter.info(
                f"{out.count:,} solutions, {tally.completions:,} completions, "
                f"{tally.unfinished:,} unfinished (counted as wrong), "
                f"{tally.shared_prefixes:,} prefixes shared, {running.usage.summary(reporter.seconds)}"
                f"{grader.summary()}"
            )
