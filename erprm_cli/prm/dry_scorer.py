"""A scorer that only counts what it would read, with --dry-run."""

from collections.abc import Iterable, Iterator
from typing import Any

from erprm_cli.models import loading
from erprm_cli.models.size import model_size
from erprm_cli.prm.scorer import Scorer
from erprm_cli.prm.step_scorer import StepScorer
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rows.row import Row


class DryScorer(Scorer):
    """Tokenises and tags solutions as its base class does, and gives every step the score 0.5."""

    def load(self, dtype: str, batch_tokens: int, load_options: dict[str, Any]) -> None:
        """Read the configuration of the model instead of its weights."""
        self.num_steps = 0
        load_options = {name: load_options[name] for name in ("revision", "trust_remote_code")}
        self.model_size = model_size(self.name, **load_options)
        self.dtype = loading.pick_dtype(dtype, loading.pick_device())
        self.tagger.max_tokens = self.model_size.max_tokens

    def score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Row]:
        """Yield each row, counted."""
        for row, tagged in solutions:
            self.num_tokens += len(tagged.ids)
            self.num_steps += len(tagged.tags)
            yield self.scored(row, [0.5] * len(tagged.tags))

    read = StepScorer.read  # by score_encoded

    def plan(self) -> Row:
        """Return the counts, and the size of the model."""
        counts = {"steps": self.num_steps, "tokens": self.num_tokens}
        return counts | self.model_size.row(self.dtype)
