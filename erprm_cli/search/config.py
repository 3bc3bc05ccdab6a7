"""The options of a search: its method, its budget and the parameters of the method."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.options import Option
from erprm_cli.rows.row import Row

MethodName = Literal["smc", "best-of-n", "beam", "dvts", "lookahead"]
TREES = ("beam", "dvts", "lookahead")  # keep the best prefixes and drop the others

# The parameters that each method reads, beside n.
PARAMETERS: dict[str, Sequence[str]] = {
    "smc": ("eta", "ess_threshold", "draws", "verify"),
    "best-of-n": (),
    "beam": ("width", "aggregate"),
    "dvts": ("width", "aggregate"),
    "lookahead": ("width", "aggregate", "ahead"),
}


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """The method of a search and its parameters. Each field declares its option (see `options.grouped`)."""

    method: Annotated[MethodName, Option(help="Search method.")] = "smc"
    n: Annotated[
        int, Option("-n", "--n", min=1, metavar="N", help="Particles, samples or candidates per problem.")
    ] = 8
    eta: Annotated[
        float,
        Option(metavar="ETA", help="smc: strength of the preference for reward: samples from pi0 e^(eta r)."),
    ] = 5.0
    ess_threshold: Annotated[
        float,
        Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="smc: resample if the effective sample size is below this share of N.",
        ),
    ] = 0.9
    draws: Annotated[
        int,
        Option(
            min=0,
            metavar="D",
            help="smc: return D draws by the weights; 0: all particles with their weights.",
        ),
    ] = 0
    verify: Annotated[
        bool,
        Option(
            "--verify",
            help="smc: weight finished solutions by the known answer, not by the PRM; for training data, "
            "never for evaluation.",
        ),
    ] = False
    width: Annotated[
        int, Option(min=1, metavar="M", help="beam, dvts, lookahead: extensions of each prefix that is kept.")
    ] = 4
    aggregate: Annotated[
        options.Aggregate,
        Option("--aggregate", help="beam, dvts, lookahead: how the scores of the steps become one score."),
    ] = options.Aggregate.min
    ahead: Annotated[
        int, Option(min=1, metavar="STEPS", help="lookahead: greedy steps before a prefix is scored.")
    ] = 1

    def __post_init__(self) -> None:
        """Raise UsageError for values that contradict each other."""
        if self.method == "smc" and not 0 < self.eta < inf:
            raise UsageError(f"--eta {self.eta:g}: smc needs a positive finite number")
        if self.method in TREES and self.n % self.width:
            raise UsageError(f"--n {self.n} must be a multiple of --width {self.width}")

    @property
    def num_solutions(self) -> int:
        """How many solutions of each problem the search returns."""
        if self.method in TREES:
            return self.n // self.width
        return (self.draws if self.method == "smc" else 0) or self.n

    def row(self) -> Row:
        """Return the budget and those parameters that the method reads."""
        return {"n": self.n} | {name: getattr(self, name) for name in PARAMETERS[self.method]}
