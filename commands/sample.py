"""erprm sample: problems -> N graded solutions each."""

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig


@options.grouped
def sample(
    source: options.Source = "-",
    output: options.Target = "-",
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Solutions of each problem.")] = 15,
    template: options.Template = "tiny",
    temperature: options.Temperature = 0.7,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = 2048,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="One solution at temperature 0, for evaluation.")
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
    """Sample, split and grade solutions of problems.

    Adds sample, solution, steps, prediction, reward, finish_reason, num_tokens and sampling. INPUT holds
    problems (id, problem, answer; GSM8K, MATH and MetaMathQA are understood); tiny:train and tiny:test
    are the shipped ones. With -o, a larger -n later adds the missing samples.

    Example: erprm sample tiny:train -L 4 -n 2
    """
    from erprm_cli.answers.grader import Grader
    from erprm_cli.data_formats.problems import as_problem
    from erprm_cli.engines.open import open_engine, provenance
    from erprm_cli.io.bad_rows import bad_rows
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.writing import open_output
    from erprm_cli.policy.sampling import SamplingSettings, missing_samples, sample_solutions
    from erprm_cli.policy.templates import load_template
    from erprm_cli.rows import schema
    from erprm_cli.rows.sharding import choose_shard
    from erprm_cli.rows.streams import peek, unique
    from erprm_cli.terminal.reporter import Reporter

    if greedy:
        n, temperature = 1, 0.0
    recipe = load_template(template)
    drawn = SamplingSettings(engine.model, engine.revision, temperature, top_p, max_tokens, seed, recipe.name)
    settings = {"command": "sample", **asdict(drawn), **engine.settings()}
    share = choose_shard(shard, Reporter("sample", quiet))
    settings |= share.settings()
    with (
        bad_rows(errors, max_errors) as bad,
        open_output(output, settings, source=source, overwrite=overwrite) as out,
    ):
        done = schema.keys(out.existing())
        rows = read_rows(source, unique(as_problem, "id"), bad, limit)
        problems = peek(
            problem for problem in rows if problem["id"] in share and missing_samples(problem, n, done)
        )
        if problems is None:
            if done:
                Reporter("sample", quiet).info(f"nothing is missing: {len(done):,} solutions were there")
            return
        with (
            closing(open_engine(engine, Reporter("sample", quiet))) as running,
            Grader(bad.note) as grader,
            Reporter("sample", quiet) as reporter,
        ):
            out.made_with(provenance(running, type(running).__name__))
            right = unfinished = 0
            for row in sample_solutions(problems, running, recipe, drawn, n, grader, done):
                out.write(row)
                right += row["reward"] == 1.0
                unfinished += row["finish_reason"] != "stop"
                reporter.progress(out.count, "solutions", note=running.usage.rate(reporter.seconds))
            reporter.info(
                f"{out.count:,} solutions, {right / out.count:.1%} right, {unfinished:,} unfinished, "
                f"{running.usage.summary(reporter.seconds)}{grader.summary()}"
            )
