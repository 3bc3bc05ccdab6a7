"""erprm sample: problems -> N graded solutions each."""

from functools import partial
from typing import Annotated

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig


@options.grouped
def sample(
    streams: options.ShardedStreams,
    engine: EngineConfig,
    n: Annotated[int, options.Option("-n", "--n", min=1, metavar="N", help="Solutions per problem.")] = 15,
    template: options.Template = None,
    chat_template_kwargs: options.ChatTemplateKwargs = None,
    steps_of: options.StepsOf = None,
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
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.data_formats.problems import as_problem
    from erprm_cli.engines.open import choose_engine
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.streams import open_streams
    from erprm_cli.policy.sampling import SamplingSettings, output_settings, sample_to
    from erprm_cli.policy.template_choice import choose_template
    from erprm_cli.rows.sharding import choose_shard
    from erprm_cli.rows.streams import unique
    from erprm_cli.terminal.reporter import Reporter

    if greedy:
        n, temperature = 1, 0.0
    reporter = Reporter("sample", streams.quiet)
    choose_engine(engine)  # wrong flags and names are found before anything is loaded
    begun = None if streams.overwrite else streams.output
    prompts = choose_template(template, engine, reporter, chat_template_kwargs, steps_of, begun)
    sampling = SamplingSettings(
        engine.model, engine.revision, temperature, top_p, max_tokens, seed, prompts.name, prompts.options()
    )
    shard = choose_shard(streams.shard, reporter)
    names = FieldNames(streams.field, reporter.info)
    settings = output_settings("sample", sampling, engine, prompts) | shard.settings() | names.settings()
    with open_streams("sample", streams, settings, dry_run=engine.dry_run) as (bad, out, reporter):
        check = unique(partial(as_problem, names=names), "id")
        rows = read_rows(streams.source, check, bad, streams.limit, reporter=reporter)
        problems = (problem for problem in rows if problem["id"] in shard)
        sample_to(out, problems, engine, prompts, sampling, n, reporter, bad)
