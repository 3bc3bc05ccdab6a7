"""erprm score: solutions -> a probability per step that all is well so far."""

from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from erprm_cli import options
from erprm_cli.engines import EngineConfig
from erprm_cli.jsonl import Row, bad_rows, open_output, read_rows
from erprm_cli.progress import News

if TYPE_CHECKING:
    from erprm_cli.prm import Scorer, Tagged


@options.group("engine", without=("model", "batch_size", "base_url", "concurrency"))
def score(
    prm: options.Prm,
    source: options.Source = "-",
    output: options.Target = "-",
    batch_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens in one forward pass, padding included; 0 suits the device.")
    ] = 0,
    *,
    engine: EngineConfig,
    limit: options.Limit = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Score the steps of solutions with a reward model.

    Adds scores (one float in [0, 1] per step) and prm. INPUT holds solutions as `erprm sample` writes them.
    A solution that cannot be scored, as one longer than the model can read, is a bad row. With -o, a
    repeated run scores what is missing.

    Example: erprm score solutions.jsonl --prm prm -o scores.jsonl
    """
    from erprm_cli import records
    from erprm_cli.streams import peek

    settings = {"command": "score", "prm": prm, "revision": engine.revision, **engine.settings()}
    with (
        bad_rows(errors, max_errors) as bad,
        open_output(output, settings, source=source, overwrite=overwrite) as out,
        News("score", quiet) as news,
        ExitStack() as stack,
    ):
        done = records.keys(out.existing())
        left_alone = 0

        @cache
        def scorer() -> "Scorer":
            from erprm_cli.prm import open_scorer

            loaded = open_scorer(replace(engine, model=prm), batch_tokens)
            stack.callback(loaded.close)
            if loaded.card is None:
                news.warn(f"{prm} has no erprm.json; it is read as a PRM of the format er-prm")
            return loaded

        def encoded(row: Row) -> "tuple[Row, Tagged] | None":
            nonlocal left_alone
            records.solution(row)
            if (row["id"], row["sample"]) in done:
                left_alone += 1
                return None
            return row, scorer().encode(row)

        # The model is loaded with the first row that needs it, and not for an empty input.
        missing = peek(filter(None, read_rows(source, encoded, bad, limit)))
        for row in scorer().score_encoded(missing) if missing else ():
            out.write(row)
            news.progress(out.count, "solutions", note=f"{scorer().num_tokens / news.seconds:,.0f} tokens/s")
        there = f", {left_alone:,} were there" if left_alone else ""
        news.say(f"{out.count:,} solutions scored{there}, {news.seconds:.1f} s")
