"""Flags about process reward models: how one is loaded, and how it scores."""

from dataclasses import dataclass
from typing import Annotated

from erprm_cli import options


@dataclass(frozen=True, slots=True)
class PrmConfig:
    """How a process reward model is loaded, for commands that run no engine.

    The fields are arguments of `Scorer` and of `export_prm`.
    """

    prm_format: options.PrmFormatName = None
    revision: options.Revision = None
    trust_remote_code: options.TrustRemoteCode = False
    allow_pickle: options.AllowPickle = False


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
