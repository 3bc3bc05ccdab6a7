"""Rows of the log of GRPO: what the completions since the last row were like, averaged.

B completions, N of each problem
"""

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from erprm_cli.rl.divergence import Estimate, Point
from erprm_cli.rows.row import Row

if TYPE_CHECKING:
    from torch import Tensor

    from erprm_cli.rl.judge import Judged  # loads torch

# Field of a row: its name in the entries that Trainer keeps, and as TRL calls what it measures.
FIELDS = {
    "step": "step",
    "epoch": "epoch",
    "loss": "loss",
    "lr": "learning_rate",
    "grad_norm": "grad_norm",
    "outcome": "outcome",
    "prm_score": "prm_score",
    "kl": "kl",
    "entropy": "entropy",
    "completion_tokens": "completion_tokens",
    "num_steps": "num_steps",
    "truncated": "truncated",
    "without_answer": "without_answer",
    "generated_tokens": "generated_tokens",
    "accuracy": "accuracy",
    "policy": "policy",
    "policy_step": "policy_step",
}


def log_row(entry: dict[str, Any]) -> Row:
    """Return the row of one entry of Trainer's history; null for what it does not have."""
    row = {name: entry.get(kept) for name, kept in FIELDS.items()}
    return row | {"epoch": float(entry["epoch"])}


def point(entry: dict[str, Any]) -> Point | None:
    """Return what an entry says of outcome and score; None for one without completions."""
    if "outcome" not in entry:
        return None
    outcome = Estimate(entry["outcome"], entry["outcome_error"])
    gap = Estimate(entry["prm_score"] - entry["outcome"], entry["gap_error"])
    return Point(entry["step"], outcome, entry["prm_score"], gap)


@dataclass(slots=True)
class Window:
    """Means of the completions since the last row, and the number of tokens since the start."""

    generated_tokens: int = 0
    outcomes: list[float] = field(default_factory=list)  # one per problem
    scores: list[float] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=dict)  # one per batch of completions

    def add(self, judged: "Judged", length_B: "Tensor", n: int) -> None:
        """Take the completions of all processes; `length_B` are their tokens."""
        self.generated_tokens += int(length_B.sum())
        self.outcomes += judged.outcome_B.view(-1, n).mean(1).tolist()
        self.scores += judged.lowest_B.view(-1, n).mean(1).tolist()
        means = {
            "completion_tokens": length_B.float(),
            "num_steps": judged.is_step_BL.sum(1),
            "truncated": judged.is_truncated_B,
            "without_answer": 1 - judged.has_answer_B,
        }
        for name, value_B in means.items():
            self.shares.setdefault(name, []).append(value_B.mean().item())

    def close(self) -> dict[str, float]:
        """Return the means and begin again."""
        outcome = Estimate.of(self.outcomes)
        gap = Estimate.of([score - own for score, own in zip(self.scores, self.outcomes, strict=True)])
        found = {
            "outcome": outcome.mean,
            "outcome_error": outcome.error,
            "prm_score": fmean(self.scores),
            "gap_error": gap.error,
            **{name: fmean(values) for name, values in self.shares.items()},
            "generated_tokens": self.generated_tokens,
        }
        self.outcomes, self.scores, self.shares = [], [], {}
        return found
