"""Flags about figures. `--help` loads this module, so it imports nothing heavy."""

from dataclasses import dataclass
from typing import Annotated, Literal

from erprm_cli.errors import UsageError
from erprm_cli.options import Option
from erprm_cli.roles import Role


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


@dataclass(frozen=True, slots=True)
class BestOfNConfig:
    """For which budgets `erprm bon` shows results, and what it compares."""

    n: Annotated[
        str | None,
        Option(
            "-n",
            "--n",
            metavar="N,...",
            help="Show results for these n. Default: 1,4,8,16,32,64 and all candidates.",
        ),
    ] = None
    compare: Annotated[
        list[str] | None,
        Role.READ,
        Option(
            metavar="FILE",
            help="The same candidates scored by another PRM; with --x tokens, other solutions of the same "
            "problems; repeatable.",
        ),
    ] = None
    x: Annotated[
        Literal["n", "tokens"],
        Option("--x", help="Show accuracy against this. tokens: compare searches at equal tokens."),
    ] = "n"

    @property
    def others(self) -> list[str]:
        """The files of --compare."""
        return self.compare or []

    @property
    def budgets(self) -> list[int]:
        """The numbers of --n, or an empty list if it is not given; UsageError if they are not numbers."""
        numbers = [part.strip() for part in self.n.split(",")] if self.n is not None else []
        if not all(part.isdecimal() and int(part) for part in numbers):
            raise UsageError(
                f"--n takes whole numbers from 1, separated by commas, like 1,4,16; not {self.n!r}"
            )
        return sorted(set(map(int, numbers)))
