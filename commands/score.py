"""erprm score: solutions -> a probability per step that there is no error so far."""

from dataclasses import replace
from typing import Annotated

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig
from erprm_cli.io.streams import open_streams
from erprm_cli.prm.config import BatchTokens, ScoreEta
from erprm_cli.terminal.reporter import Reporter


@options.grouped
def score(
    prm: options.Prm,
    streams: options.ShardedStreams,
    engine: Annotated[EngineConfig, options.Without("model", "batch_size")],
    prm_format: options.PrmFormatName = None,
    eta: ScoreEta = None,
    batch_tokens: BatchTokens = 0,
) -> None:
    """Score the steps of solutions with a reward model.

    Adds scores (one float in [0, 1] per step) and prm. INPUT holds solutions from `erprm sample`, or rows of
    a format that `erprm convert` reads. A solution that cannot be scored, such as one longer than the model
    can read, is a bad row. With -o, the same command continues after a stop. --base-url asks a server:
    an `erprm serve`, or a vLLM with the task token_classify; --prm is then the name of the served model.

    Example: erprm score solutions.jsonl --prm prm -o scores.jsonl
    """
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.prm.scoring import LazyScorer, chosen_engine, output_settings, score_to
    from erprm_cli.rows.sharding import choose_shard

    reporter = Reporter("score", streams.quiet)
    shard, names = choose_shard(streams.shard, reporter), FieldNames(streams.field, reporter.info)
    model = replace(engine, model=prm)
    settings = output_settings(model, prm_format, eta) | shard.settings() | names.settings()
    model.report_unread(chosen_engine(model), Reporter("score"))
    scorer = LazyScorer(model, batch_tokens=batch_tokens, prm_format=prm_format, eta=eta)
    with open_streams("score", streams, settings, dry_run=engine.dry_run) as (bad, out, reporter):
        score_to(
            out,
            streams.source,
            scorer,
            reporter,
            bad=bad,
            limit=streams.limit,
            shard=shard,
            names=names,
        )
