"""When a prefix has enough completions: K of them, or fewer once they determine its label well enough.

Completions are drawn in rounds. Which ones a prefix keeps depends on its first completions only, not on how
many were drawn at once or on an earlier run, so that a run with a stricter rule continues a looser one.

The number of completions then depends on their outcomes. That does not change the likelihood of the counts,
which `erprm train --target counts` fits, but it biases averages such as k/K; docs/budgets.md says how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from erprm_cli.labels.intervals import label_interval


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """Stop once the interval of the label at `eta` is narrower than `width`; without a width, never.

    At an infinite eta, of the hard label, one success is enough.
    """

    width: float | None = None
    eta: float = 0.0

    def rounds(self, k: int) -> tuple[int, ...]:
        """Return how many completions there are after each round, `k` after the last one.

        Each round doubles their number; the first one ends when equal outcomes would be enough.

        >>> StoppingRule(0.3).rounds(20), StoppingRule(1, eta=float("inf")).rounds(10)
        ((8, 16, 20), (1, 2, 4, 8, 10))
        """
        first = 1
        while first < k and not (self.is_enough(0, first) or self.is_enough(first, first)):
            first *= 2
        counts = [first]
        while counts[-1] < k:
            counts.append(2 * counts[-1])
        return (*counts[:-1], k)

    def needed(self, k: int, rewards: Sequence[float], own: Sequence[float] = ()) -> int:
        """Return how many completions, at most `k`, a prefix needs, as far as its first `rewards` tell.

        If there are as many, the prefix keeps these; if not, the others are to be drawn next. `own` holds the
        reward of the solution itself, if it counts as one more completion.

        >>> rule = StoppingRule(0.5)
        >>> rule.needed(16, []), rule.needed(16, [0, 0, 0, 0, 1]), rule.needed(16, [0, 1, 0, 1])
        (4, 4, 8)
        """
        is_counted = all(reward in (0, 1) for reward in (*own, *rewards))  # other rewards have no interval
        for count in (0, *self.rounds(k)) if own else self.rounds(k):
            if count > len(rewards) or count == k:
                return count
            if is_counted and self.is_enough(int(sum(own) + sum(rewards[:count])), count + len(own)):
                return count
        raise AssertionError("the last round has k completions")

    def is_enough(self, wins: int, count: int) -> bool:
        """Return whether `wins` successes in `count` completions determine the label well enough."""
        if self.width is None:
            return False
        low, high = label_interval(wins, count, self.eta)
        return high - low < self.width
