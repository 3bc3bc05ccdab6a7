"""erprm export: a trained process reward model in another shape."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from erprm_cli import options
from erprm_cli.prm.config import PrmConfig
from erprm_cli.terminal.reporter import Reporter

Kind = StrEnum("Kind", ["token", "head"])


@options.grouped
def export(
    prm: Annotated[
        str,
        options.Role.READ_BY_NAME,
        options.Argument(
            metavar="PRM",
            help="Token PRM: a folder or a Hub name.",
            rich_help_panel=options.Heading.STREAMS,
        ),
    ],
    output: Annotated[
        Path,
        options.Role.MODEL,
        options.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="New folder for the model.",
            rich_help_panel=options.Heading.STREAMS,
        ),
    ],
    config: PrmConfig,
    kind: Annotated[
        Kind,
        options.Option(
            help="head: a token classification model; token: unchanged except that adapters are merged."
        ),
    ] = Kind.head,
    dtype: Annotated[
        options.Dtype,
        options.Option(
            "--dtype",
            help="Number type to save in; auto: that of PRM.",
            rich_help_panel=options.Heading.MODEL,
        ),
    ] = options.Dtype.auto,
    quiet: options.Quiet = False,
) -> None:
    """Export a process reward model to a token classifier.

    The head is made of the two rows of the output matrix that give the scores of the PRM, so the scores stay
    the same. transformers and vLLM load it as a token classification model (class 1 is good). LoRA adapters
    are merged.

    Example: erprm export prm -o prm-head
    """
    with Reporter("export", quiet) as reporter:
        from erprm_cli.prm.export import export_prm

        export_prm(prm, output, kind.value, dtype=dtype.value, **asdict(config))
        reporter.info(f"{output}: {prm} as a PRM of kind {kind.value}")
