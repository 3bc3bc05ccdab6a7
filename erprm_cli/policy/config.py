"""Flags of `erprm rollout`: how many completions, and after which steps. Nothing heavy is imported."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, Annotated, Literal

from erprm_cli.errors import UsageError
from erprm_cli.options import Option
from erprm_cli.rows.row import Row

if TYPE_CHECKING:
    from erprm_cli.policy.step_choice import StepChoice
    from erprm_cli.policy.stopping import StoppingRule


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """Which completions are made. UsageError for rules that contradict each other."""

    k: Annotated[
        int, Option("-k", "--k", min=1, metavar="K", help="Completions per step; the most, with a rule.")
    ] = 16
    until_width: Annotated[
        float | None,
        Option(
            min=0.001,
            max=1,
            metavar="W",
            help="Stop a step when the 95 % interval of its label is narrower than W; the number of "
            "completions doubles until then. Train on counts: averages such as k/K become biased, by up to "
            "0.07, with --for-eta 2 by up to 0.21. Default: K completions.",
        ),
    ] = None
    for_eta: Annotated[
        float | None,
        Option(
            metavar="ETA",
            help="With --until-width: eta of the label whose interval is measured. Default: 0, the success "
            "rate.",
        ),
    ] = None
    for_estimator: Annotated[
        Literal["hard"] | None,
        Option(
            "--for",
            help="Stop a step at its first success, after 1, 2, 4, ... completions: the hard label is "
            "then 1.",
        ),
    ] = None
    steps: Annotated[
        Literal["all", "bisect"],
        Option(
            help="Steps to roll out: all, or those that a bisection for the first error of a wrong solution "
            "visits; the rollouts of the others are null."
        ),
    ] = "all"
    count_own: Annotated[
        bool,
        Option(
            "--count-own",
            help="Count each solution as one more rollout of its own prefixes. It must have been sampled at "
            "the same settings and not chosen by its outcome.",
        ),
    ] = False
    keep_text: Annotated[
        bool, Option("--keep-text", help="Also write the completions, as `completions`.")
    ] = False
    budget: Annotated[
        float | None,
        Option(
            min=1,
            metavar="TOKENS",
            help="With --dry-run: propose K and the number of solutions that so many generated tokens pay "
            "for. INPUT is a pilot: rows with rollouts.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.for_estimator is not None and (self.until_width is not None or self.for_eta is not None):
            raise UsageError("--for hard needs no width and no eta; give it alone")
        if self.for_eta is not None and self.until_width is None:
            raise UsageError("--for-eta is for --until-width; give the width too")
        if self.for_eta is not None and not isfinite(self.for_eta):
            raise UsageError(
                f"--for-eta {self.for_eta:g} is not a finite number; --for hard is for hard labels"
            )

    def rule(self) -> "StoppingRule":
        """Return when a step has enough completions."""
        from erprm_cli.policy.stopping import StoppingRule

        if self.for_estimator is not None:
            return StoppingRule(1.0, inf)
        return StoppingRule(self.until_width, self.for_eta or 0.0)

    def next_steps(self) -> "StepChoice":
        """Return what chooses the steps to roll out."""
        from erprm_cli.policy.step_choice import CHOICES

        return CHOICES[self.steps]

    def settings(self) -> Row:
        """Return the settings of an output. A rule that is not given is null, as in older outputs."""
        return {
            "k": self.k,
            "keep_text": self.keep_text,
            "until_width": self.until_width,
            "for_eta": self.for_eta,
            "for": self.for_estimator,
            "steps": None if self.steps == "all" else self.steps,
            "count_own": self.count_own or None,
        }
