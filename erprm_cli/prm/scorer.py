"""A process reward model at work: text to tagged tokens, tags to probabilities.

P(step l is good) = softmax over the logits of `good` and `bad` at the tag after step l (arXiv 2412.11006,
section 4.1), or what else the model's format says (prm/formats.py). Only the tags pass the output layer, and
only the rows of it that are read.

B solutions, T tokens (padded), D width of the model, N tags of all B solutions, L steps of one solution,
R rows of the output layer that are read
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from erprm_cli.errors import UserError
from erprm_cli.labels.estimator import relabel
from erprm_cli.models import loading
from erprm_cli.models.folder import CARD
from erprm_cli.models.outputs import flat_positions, max_positions, output_at, pad
from erprm_cli.prm.card import eta_learned, format_of, read_card
from erprm_cli.prm.formats import PrmFormat
from erprm_cli.prm.loading import load_prm
from erprm_cli.prm.tagger import Tagged, Tagger
from erprm_cli.rows.row import Row

WINDOW_BATCHES = 16  # full batches sorted together: enough that few tokens are padding
BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536}


class Scorer:
    """A loaded PRM."""

    def __init__(
        self,
        name: str,
        *,
        form: str | None = None,
        eta: float | None = None,
        dtype: str = "auto",
        batch_tokens: int = 0,
        revision: str | None = None,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
    ) -> None:
        """Load a folder or Hub name, read by the format `form`, or by the one that is known to be its own.

        With `eta`, scores become labels at that eta, exactly: P(good) is taken for a rate of success, or for
        a label at the eta that the model's card says it has learned.
        At most `batch_tokens` tokens, padding included, are in one forward pass; 0 suits the device.
        """
        self.name = name
        self.card = read_card(name)  # None: not made by erprm
        # A model of outcomes learned the last tag alone, and what it says at the others means nothing.
        self.outcome_only = bool(self.card and self.card.get("settings", {}).get("outcome_only"))
        self.eta, self.eta_learned = eta, None if eta is None else eta_learned(name, self.card)
        tokenizer = loading.load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
        self.tagger = Tagger(format_of(name, self.card, form), tokenizer)
        self.form = self.tagger.form
        token_ids = asdict(self.tagger.token_ids)
        if self.card is not None and form is None and self.card["token_ids"] != token_ids:
            raise UserError(
                f"{name}: {CARD} says {self.card['token_ids']}, but the tokenizer beside it gives "
                f"{token_ids}; the folder mixes the files of two models"
            )
        self.num_tokens = 0  # read so far
        self.num_padded = 0  # read so far, padding included
        where = {"revision": revision, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
        self.load(dtype, batch_tokens, where)

    def load(self, dtype: str, batch_tokens: int, where: dict[str, Any]) -> None:
        """Load the model; `where` is what else load_prm takes."""
        device = loading.pick_device()
        self.model = load_prm(
            self.name,
            self.form,
            dtype=loading.pick_dtype(dtype, device),
            **where,
        )
        self.model.to(device).eval()
        self.tagger.max_tokens = max_positions(self.model.config)
        self.batch_tokens = batch_tokens or BATCH_TOKENS[device.type]

    def close(self) -> None:
        """End what runs for the model."""

    def encode(self, row: Row) -> Tagged:
        """Tokenise a solution row; RowError if it cannot be scored."""
        return self.tagger.encode(row["problem"], row["steps"])

    def score(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield each solution row with `scores` (L floats in [0, 1]) and `prm`, in the order given.

        A model trained with --outcome-only judges a whole solution: every step carries that one score, so
        that all aggregators but "prod" agree on it.
        """
        return self.score_encoded((row, self.encode(row)) for row in rows)

    def score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Row]:
        """As `score`, from rows that `encode` has read already.

        One forward pass reads a whole solution. Solutions are drawn a window at a time and batched by length.
        """
        stream = iter(solutions)
        while window := list(islice_tokens(stream, WINDOW_BATCHES * self.batch_tokens)):
            scores: list[list[float]] = [[]] * len(window)
            for batch in batches_by_length([len(tagged.ids) for _, tagged in window], self.batch_tokens):
                found = self.probabilities([window[index][1] for index in batch])
                for index, values in zip(batch, found, strict=True):
                    scores[index] = values
            for (row, _), values in zip(window, scores, strict=True):
                yield self.scored(row, values)

    def scored(self, row: Row, values: list[float]) -> Row:
        """Return the row with the probabilities of its steps."""
        if self.outcome_only:
            values = values[-1:] * len(values)
        if self.eta is not None and self.eta_learned is not None:
            values = [relabel(value, self.eta_learned, self.eta) for value in values]
        return row | {"scores": values, "prm": self.name}

    @torch.inference_mode()
    def probabilities(self, batch: Sequence[Tagged]) -> list[list[float]]:
        """Return P(good) of every step of every solution of one batch, in one forward pass."""
        ids_BT = pad([tagged.ids for tagged in batch])
        position_N = flat_positions([tagged.tags for tagged in batch], ids_BT.shape[1])
        self.num_tokens += sum(len(tagged.ids) for tagged in batch)
        self.num_padded += ids_BT.numel()
        device = self.model.device
        with output_at(self.model, position_N.to(device), self.tagger.rows):
            logits_NR = self.model(input_ids=ids_BT.to(device), use_cache=False).logits
        good_N = good_probability(self.form, logits_NR).cpu()
        if not bool(good_N.isfinite().all()):
            raise UserError(f"{self.name} gives scores that are no numbers; its weights are broken")
        return [part.tolist() for part in good_N.split([len(tagged.tags) for tagged in batch])]


def good_probability(form: PrmFormat, logits_NR: Tensor) -> Tensor:
    """Return P(good) [N] from the logits of the rows that `form` reads (`Tagger.rows`), in float32."""
    logits_NR = logits_NR.float()
    if form.kind == "value":
        return logits_NR[:, 0].sigmoid()
    good = [0] if form.kind == "token" else list(form.labels)
    return logits_NR.softmax(-1)[:, good].sum(-1).clamp(max=1.0)  # a sum may round to more than 1


def islice_tokens(solutions: Iterator[tuple[Row, Tagged]], num_tokens: int) -> Iterator[tuple[Row, Tagged]]:
    """Yield solutions until they hold `num_tokens` tokens."""
    for row, tagged in solutions:
        yield row, tagged
        num_tokens -= len(tagged.ids)
        if num_tokens <= 0:
            return


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield the indices of `lengths`, longest first, in batches that fit `batch_tokens`, padding included.

    >>> list(batches_by_length([2, 9, 3, 3], 9))
    [[1], [2, 3, 0]]
    """
    order = iter(sorted(range(len(lengths)), key=lambda index: -lengths[index]))
    for first in order:
        yield [first, *islice(order, max(0, batch_tokens // lengths[first] - 1))]
