"""Flags about figures. `--help` loads this module, so it imports nothing heavy."""

from dataclasses import dataclass
from typing import Annotated

from erprm_cli.errors import UsageError
from erprm_cli.options import Option


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """Below which score `erprm processbench` takes a step for wrong. UsageError for two rules."""

    threshold: Annotated[
        float | None,
        Option(min=0, max=1, metavar="P", help="Steps with a score below P count as wrong. Default: 0.5."),
    ] = None
    tune_on: Annotated[
        str | None,
        Option(metavar="SPLIT", help="Use the threshold with the highest F1 on this split."),
    ] = None
    oracle: Annotated[
        bool,
        Option("--oracle", help="Use the best threshold of each split, which gives an upper bound."),
    ] = False

    def __post_init__(self) -> None:
        if (self.threshold is not None) + (self.tune_on is not None) + self.oracle > 1:
            raise UsageError("--threshold, --tune-on and --oracle exclude each other; give one of them")
