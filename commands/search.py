"""erprm search: problems -> solutions sampled from the paper's optimal policy, or found with a PRM."""

from dataclasses import replace
from functools import partial
from typing import Annotated

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig
from erprm_cli.search.config import SearchConfig


@options.grouped
def search(
    prm: options.Prm,
    streams: options.ShardedStreams,
    config: SearchConfig,
    engine: EngineConfig,
    prm_format: options.PrmFormatName = None,
    prm_engine: Annotated[
        options.EngineName,
        options.Option(
            help="Backend that runs the PRM. auto: server with --prm-base-url, else vllm if there is a GPU, "
            "else transformers.",
            rich_help_panel=options.Heading.MODEL,
        ),
    ] = "auto",
    prm_base_url: Annotated[
        str | None,
        options.Option(
            metavar="URL",
            help="API of a server that scores with the PRM, as --base-url of `erprm score`.",
            rich_help_panel=options.Heading.SERVER,
        ),
    ] = None,
    template: options.Template = None,
    chat_template_kwargs: options.ChatTemplateKwargs = None,
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = 2048,
    seed: options.Seed = 0,
) -> None:
    """Sample from the optimal policy, or search with a PRM.

    Adds what `erprm sample` and `erprm score` add, and method, log_weight and search (tokens used and other
    figures of the problem). INPUT holds problems. Method smc samples from the policy that the paper derives,
    pi0 e^(eta r) / Z, with the scores of the PRM as process rewards; best-of-n, beam, dvts and lookahead look
    for solutions with high scores. With -o, the same command continues after a stop.

    Example: erprm search tiny:test -L 10 --prm prm --method smc -n 8 -o found.jsonl
    """
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.engines.open import choose_engine
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.streams import open_streams
    from erprm_cli.policy.sampling import SamplingSettings, output_settings
    from erprm_cli.policy.template_choice import choose_template
    from erprm_cli.prm import scoring
    from erprm_cli.rows.sharding import choose_shard
    from erprm_cli.rows.streams import unique
    from erprm_cli.search.search import check_problem, check_search, search_to, share_gpu
    from erprm_cli.terminal.reporter import Reporter

    reporter = Reporter("search", streams.quiet)
    choose_engine(engine)  # wrong flags and names are found before anything is loaded
    begun = None if streams.overwrite else streams.output
    prompts = choose_template(template, engine, reporter, chat_template_kwargs, continued=begun)
    sampling = SamplingSettings(
        engine.model, engine.revision, temperature, top_p, max_tokens, seed, prompts.name, prompts.options()
    )
    # The policy's context length, revision and vLLM options do not apply to the PRM.
    reader = replace(
        engine,
        model=prm,
        engine=prm_engine,
        base_url=prm_base_url,
        revision=None,
        max_model_len=None,
        quantization=None,
        engine_args=None,
    )
    engine, reader = share_gpu(engine, reader)
    scorer = scoring.LazyScorer(reader, prm_format=prm_format)
    value = check_search(config, prm, prompts)
    shard, names = choose_shard(streams.shard, reporter), FieldNames(streams.field, reporter.info)
    settings = scoring.output_settings(reader, prm_format)
    settings |= output_settings("search", sampling, engine, prompts) | {"method": config.method}
    settings |= config.row() | shard.settings() | names.settings()
    with open_streams("search", streams, settings, dry_run=engine.dry_run) as (bad, out, reporter):
        check = unique(partial(check_problem, config=config, names=names), "id")
        rows = read_rows(streams.source, check, bad, streams.limit, reporter=reporter)
        problems = (problem for problem in rows if problem["id"] in shard)
        search_to(out, problems, engine, scorer, prompts, sampling, config, value, reporter, bad)
