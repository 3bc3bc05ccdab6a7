"""erprm score: solutions -> a probability per step that all is well so far."""

from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Annotated

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig
from erprm_cli.io.reading import read_rows
from erprm_cli.io.streams import open_streams
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter

if TYPE_CHECKING:
    from erprm_cli.prm.scorer import Scorer
    from erprm_cli.prm.tagger import Tagged


@options.grouped
def score(
    prm: options.Prm,
    streams: options.ShardedStreams,
    engine: Annotated[EngineConfig, options.Without("model", "batch_size", "base_url", "concurrency")],
    prm_format: options.PrmFormatName = None,
    eta: Annotated[
        float | None,
        options.Option(
            metavar="ETA",
            help="Convert scores to labels at ETA, if the PRM was trained on counts, on soft labels or at a "
            "known eta. Default: scores as they are.",
        ),
    ] = None,
    batch_tokens: Annotated[
        int,
        options.Option(
            min=0,
            metavar="N",
            help="Tokens per forward pass, padding included; 0: automatic.",
            rich_help_panel=options.Heading.MODEL,
        ),
    ] = 0,
) -> None:
    """Score the steps of solutions with a reward model.

    Adds scores (one float in [0, 1] per step) and prm. INPUT holds solutions from `erprm sample`, or rows of
    a format that `erprm convert` reads. A solution that cannot be scored, such as one longer than the model
    can read, is a bad row. With -o, the same command continues after a stop.

    Example: erprm score solutions.jsonl --prm prm -o scores.jsonl
    """
    from erprm_cli.data_formats.foreign_rows import ForeignRows
    from erprm_cli.rows import schema
    from erprm_cli.rows.sharding import choose_shard
    from erprm_cli.rows.streams import peek, unique

    share = choose_shard(streams.shard, Reporter("score", streams.quiet))
    settings = {
        "command": "score",
        "prm": prm,
        "prm_format": prm_format,
        "revision": engine.revision,
        "eta": None if eta is None else str(eta),  # JSON has no inf
        **engine.settings(),
        **share.settings(),
    }
    with (
        open_streams("score", streams, settings) as (bad, out, reporter),
        ExitStack() as stack,
    ):
        done = schema.solution_keys(out.existing())
        left_alone = 0

        @cache
        def scorer() -> "Scorer":
            from erprm_cli.engines.open import provenance
            from erprm_cli.prm.scoring import open_scorer

            loaded = open_scorer(replace(engine, model=prm), batch_tokens, prm_format, eta)
            stack.callback(loaded.close)
            out.add_provenance(provenance(loaded, type(loaded).__name__))
            reporter.info(f"{prm} is read by the format {loaded.form.name}")
            return loaded

        check = unique(schema.check_solution, "id", "sample")  # a second one would be missing after a stop

        def encoded(row: Row) -> "tuple[Row, Tagged] | None":
            nonlocal left_alone
            check(row)
            if row["id"] not in share:
                return None
            if (row["id"], row["sample"]) in done:
                left_alone += 1
                return None
            return row, scorer().encode(row)

        # The model is loaded with the first row that needs it, and not for an empty input.
        foreign = ForeignRows()
        missing = peek(filter(None, read_rows(streams.source, encoded, bad, streams.limit, foreign)))
        for row in scorer().score_encoded(missing) if missing else ():
            out.write(row)
            reporter.progress(
                out.count, "solutions", note=f"{scorer().num_tokens / reporter.seconds:,.0f} tokens/s"
            )
        foreign.tell(reporter)
        there = f", {left_alone:,} were there" if left_alone else ""
        reporter.info(f"{out.count:,} solutions scored{there}, {reporter.seconds:.1f} s")
