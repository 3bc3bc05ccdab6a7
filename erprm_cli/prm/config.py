"""Flags about scoring. `--help` loads this module, so it imports nothing heavy."""

from typing import Annotated

from erprm_cli import options

ScoreEta = Annotated[
    float | None,
    options.Option(
        "--eta",
        metavar="ETA",
        help="Convert scores to labels at ETA, if the PRM was trained on counts, on soft labels or at a "
        "known eta. Default: scores as they are.",
    ),
]
BatchTokens = Annotated[
    int,
    options.Option(
        "--batch-tokens",
        min=0,
        metavar="N",
        help="Tokens per forward pass, padding included; 0: automatic.",
        rich_help_panel=options.Heading.MODEL,
    ),
]
