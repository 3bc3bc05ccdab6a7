"""erprm sample: problems -> N graded solutions each."""

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
    from erprm_cli.data_formats.problems import as_problem
    from erprm_cli.io.bad_rows import bad_rows
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.writing import open_output
    from erprm_cli.policy.sampling import SamplingSettings, sample_to
    from erprm_cli.policy.templates import load_template
    from erprm_cli.rows.sharding import choose_shard
    from erprm_cli.rows.streams import unique
    from erprm_cli.terminal.reporter import Reporter

    if greedy:
        n, temperature = 1, 0.0
    prompt = load_template(template)
    sampling = SamplingSettings(
        engine.model, engine.revision, temperature, top_p, max_tokens, seed, prompt.name
    )
    settings = {"command": "sample", **asdict(sampling), **engine.settings()}
    share = choose_shard(shard, Reporter("sample", quiet))
    settings |= share.settings()
    with (
        bad_rows(errors, max_errors) as bad,
        open_output(output, settings, source=source, overwrite=overwrite) as out,
        Reporter("sample", quiet) as reporter,
    ):
        rows = read_rows(source, unique(as_problem, "id"), bad, limit)
        problems = (problem for problem in rows if problem["id"] in share)
        sample_to(out, problems, engine, prompt, sampling, n, reporter, bad.note)
