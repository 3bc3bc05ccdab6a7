"""erprm score: solutions -> a probability per step that all is well so far."""

from dataclasses import replace
from typing import Annotated

import typer

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.writing import open_output
from erprm_cli.terminal.reporter import Reporter


@options.grouped
def score(
    prm: options.Prm,
    source: options.Source = "-",
    output: options.Target = "-",
    prm_format: options.PrmFormatName = None,
    eta: Annotated[
        float | None,
        typer.Option(
            help="Turn scores into labels at this eta; for a model of counts, soft labels or a known eta.",
            show_default="as they are",
        ),
    ] = None,
    batch_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens in one forward pass, padding included; 0 suits the device.")
    ] = 0,
    *,
    engine: Annotated[EngineConfig, options.Without("model", "batch_size", "base_url", "concurrency")],
    limit: options.Limit = None,
    shard: options.Shard = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Score the steps of solutions with a reward model.

    Adds scores (one float in [0, 1] per step) and prm. INPUT holds solutions as `erprm sample` writes them,
    or in a format that `erprm convert` reads. A solution that cannot be scored, as one longer than the model
    can read, is a bad row. With -o, a repeated run scores what is missing.

    Example: erprm score solutions.jsonl --prm prm -o scores.jsonl
    """
    from erprm_cli.prm.scoring import score_to
    from erprm_cli.rows.sharding import choose_shard

    share = choose_shard(shard, Reporter("score", quiet))
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
        bad_rows(errors, max_errors) as bad,
        open_output(output, settings, source=source, overwrite=overwrite) as out,
        Reporter("score", quiet) as reporter,
    ):
        score_to(
            out,
            source,
            replace(engine, model=prm),
            reporter,
            batch_tokens=batch_tokens,
            prm_format=prm_format,
            eta=eta,
            bad=bad,
            limit=limit,
            share=share,
        )
