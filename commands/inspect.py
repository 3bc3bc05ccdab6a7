"""erprm inspect: show what a reward model reads and where it is read."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

from erprm_cli import options
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import open_output
from erprm_cli.prm.config import PrmConfig
from erprm_cli.terminal.reporter import Reporter


class What(StrEnum):
    prm = "prm"


@options.grouped
def inspect(
    what: Annotated[
        What,
        options.Argument(
            metavar="WHAT",
            help="What to look at: prm, a process reward model.",
            rich_help_panel=options.Heading.STREAMS,
        ),
    ],
    model: Annotated[
        str,
        options.Role.READ_BY_NAME,
        options.Argument(
            metavar="MODEL", help="A folder or a Hub name.", rich_help_panel=options.Heading.STREAMS
        ),
    ],
    config: PrmConfig,
    source: options.Source = "-",
    dtype: options.DtypeOption = options.Dtype.auto,
    field: options.Field = None,
    limit: options.Limit = 1,
    quiet: options.Quiet = False,
) -> None:
    """Show what a reward model reads, token by token.

    INPUT holds solutions from `erprm sample`; the first -L of them are scored. stderr shows the text as the
    model reads it, with every scored token marked. Rows on stdout give the step, position, token_id, token
    and score of each scored token. A tag or word that is not one token in its place is an error that says
    what the tokenizer made of it.

    Example: erprm inspect prm prm solutions.jsonl
    """
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.data_formats.foreign_rows import ForeignRows
    from erprm_cli.rows import schema
    from erprm_cli.rows.streams import peek

    with open_output("-", {}, source=source) as out, Reporter(f"inspect {what}", quiet) as reporter:
        foreign = ForeignRows(names=FieldNames(field, reporter.info))
        rows = peek(read_rows(source, schema.check_solution, limit=limit, expand=foreign))
        if rows is None:
            return
        from erprm_cli.errors import RowError, UserError
        from erprm_cli.prm.scorer import Scorer
        from erprm_cli.reports.scored_tokens import description, marked_text, scored_tokens

        scorer = Scorer(model, dtype=dtype.value, **asdict(config))
        reporter.info(description(scorer))
        for row in rows:
            try:
                tagged = scorer.encode(row)
            except RowError as error:
                raise UserError(f"{row['id']}, sample {row['sample']}: {error}") from None
            tokens = list(scored_tokens(scorer, row, tagged))
            reporter.info(
                f"{row['id']}, sample {row['sample']}: {len(tagged.ids):,} tokens, {len(tokens)} scores of "
                f"{len(row['steps'])} steps\n{marked_text(scorer, tagged, tokens)}"
            )
            for token in tokens:
                out.write(token)
