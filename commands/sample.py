"""erprm sample: problems -> N graded solutions each."""

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig


@options.grouped
def sample(
    streams: options.ShardedStreams,
    engine: EngineConfig,
    n: Annotated[int, options.Option("-n", "--n", min=1, metavar="N", help="Solutions per problem.")] = 15,
    template: options.Template = "tiny",
    temperature: options.Temperature = 0.7,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = 2048,
    greedy: Annotated[
        bool,
        options.Option("--greedy", help="One solution per problem at temperature 0, for evaluation."),
    ] = False,
    seed: options.Seed = 0,
) -> None:
    """Sample, split and grade solutions of problems.

    Adds sample, solution, steps, prediction, reward, finish_reason, num_tokens and sampling. INPUT holds
    problems (id, problem, answer, or the fields of GSM8K, MATH and MetaMathQA); tiny:train and tiny:test are
    shipped with erprm. With -o, the same command continues after a stop, and a larger -n adds samples.

    Example: erprm sample tiny:train -L 4 -n 2
    """
    from erprm_cli.answers.grader import Grader
    from erprm_cli.data_formats.problems import as_problem
    from erprm_cli.engines.open import open_engine, provenance
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.streams import open_streams
    from erprm_cli.policy.sampling import SamplingSettings, missing_samples, sample_solutions
    from erprm_cli.policy.templates import policy_template
    from erprm_cli.rows import schema
    from erprm_cli.rows.sharding import choose_shard
    from erprm_cli.rows.streams import peek, unique
    from erprm_cli.terminal.reporter import Reporter

    if greedy:
        n, temperature = 1, 0.0
    recipe = policy_template(template)
    drawn = SamplingSettings(engine.model, engine.revision, temperature, top_p, max_tokens, seed, recipe.name)
    settings = {"command": "sample", **asdict(drawn), **engine.settings()}
    share = choose_shard(streams.shard, Reporter("sample", streams.quiet))
    settings |= share.settings()
    with open_streams("sample", streams, settings) as (bad, out, reporter):
        done = schema.solution_keys(out.existing())
        rows = read_rows(streams.source, unique(as_problem, "id"), bad, streams.limit)
        problems = peek(
            problem for problem in rows if problem["id"] in share and missing_samples(problem, n, done)
        )
        if problems is None:
            if done:
                reporter.info(f"nothing is missing: the output has {len(done):,} solutions")
            return
        with closing(open_engine(engine, reporter)) as running, Grader(bad.note) as grader:
            out.add_provenance(provenance(running, type(running).__name__))
            reporter.restart()  # rates leave out the time that loading takes
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
