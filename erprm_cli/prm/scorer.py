"""Scoring with a process reward model: text to tagged tokens, tags to probabilities.

P(step l is good) = softmax over the logits of `good` and `bad` at the tag after step l (arXiv 2412.11006,
section 4.1), or as the model's format says (prm/formats.py). The output layer runs at the tags only, and only
for the rows that the format reads.

B solutions, T tokens (padded), D width of the model, N tags of all B solutions, L steps of one solution,
R rows of the output layer that are read
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from erprm_cli.errors import UserError
from erprm_cli.models import loading
from erprm_cli.models.outputs import check_token, flat_positions, max_positions, output_at, pad
from erprm_cli.prm.formats import PrmFormat
from erprm_cli.prm.kept_reading import KeptReading, Reading
from erprm_cli.prm.loading import load_prm, load_tagger
from erprm_cli.prm.step_scorer import StepScorer
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rows.row import Row

BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536}
# Solutions are sorted by length in windows, so that little is padding, and leave when a window is scored. It
# has WINDOW_BATCHES batches, but on a CPU no more than HELD_S of work, so that nobody waits for minutes. The
# work is estimated from the size of the model, not measured: the batches, and so the last bits of the scores,
# depend on the input alone.
WINDOW_BATCHES = 16
WINDOW_COPIES = 8  # times as many tokens, if equal solutions count each time
HELD_S = 2.0
CPU_FLOPS = 1e10  # per second: one core that other programs use too


class Scorer(StepScorer):
    """A loaded process reward model."""

    def __init__(
        self,
        name: str,
        *,
        prm_format: str | None = None,
        eta: float | None = None,
        dtype: str = "auto",
        batch_tokens: int = 0,
        revision: str | None = None,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
    ) -> None:
        """Load the PRM `name`, a folder or a Hub name.

        `prm_format` names its format; default: its own, from its card or its name. With `eta`, scores are
        turned into labels at that eta, taking P(good) as a success rate, or as a label at the eta that the
        model's card says it was trained at. One forward pass takes at most `batch_tokens` tokens, padding
        included; 0 chooses by device. Raises UserError if the model or its tokenizer is unsuitable.
        """
        card, self.tagger = load_tagger(
            name, prm_format, revision=revision, trust_remote_code=trust_remote_code
        )
        self.prm_format = self.tagger.prm_format
        super().__init__(name, card, eta)
        self.num_padded = 0  # scored so far, padding included
        load_options = {
            "revision": revision,
            "trust_remote_code": trust_remote_code,
            "allow_pickle": allow_pickle,
        }
        self.load(dtype, batch_tokens, load_options)

    def load(self, dtype: str, batch_tokens: int, load_options: dict[str, Any]) -> None:
        """Load the model; `load_options` are the remaining arguments of `load_prm`."""
        device = loading.pick_device()
        self.model = load_prm(
            self.name,
            self.prm_format,
            dtype=loading.pick_dtype(dtype, device),
            **load_options,
        )
        self.model.to(device).eval()
        self.tagger.max_tokens = max_positions(self.model.config)
        self.batch_tokens = batch_tokens or BATCH_TOKENS[device.type]
        self.window_tokens = WINDOW_BATCHES * self.batch_tokens
        if device.type == "cpu":
            held_tokens = int(HELD_S * CPU_FLOPS / (2 * self.model.num_parameters()))
            self.window_tokens = min(self.window_tokens, held_tokens)
            self.batch_tokens = batch_tokens or min(self.batch_tokens, held_tokens // 4)

    def close(self) -> None:
        """Free the model and whatever runs it."""

    @property
    def format_name(self) -> str:
        """The name of the format with which the PRM is read."""
        return self.prm_format.name

    def encode(self, row: Row) -> Tagged:
        """Tokenise a solution row. Raises RowError if it cannot be scored."""
        return self.tagger.encode(row["problem"], row["steps"])

    def score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Row]:
        """Do the same as `score` for rows with what `encode` returned for them.

        Solutions are read in windows and batched by length. Equal ones in a window take part in one forward
        pass together. If an error or a signal ends a window, its scored rows come first.
        """
        stream = iter(solutions)
        while window := read_window(stream, self.window_tokens):
            scores: dict[int, list[float]] = {}
            try:
                lengths = [len(tagged.ids) for tagged in window.distinct]
                for batch in batches_by_length(lengths, self.batch_tokens):
                    found = self.probabilities([window.distinct[index] for index in batch])
                    scores.update(zip(batch, found, strict=True))
            finally:
                yield from (self.scored(row, scores[index]) for row, index in window.rows if index in scores)

    def read(
        self, solutions: Sequence[tuple[Row, Tagged]], *, is_whole: bool = True
    ) -> list[Sequence[float | None]]:
        """Return P(good) of the steps of each solution.

        Unless `is_whole`, a solution is read from where an earlier reading of its first steps ended, if that
        is kept. These steps get None, and what is read now is kept for a while.
        """
        keeps = not is_whole and self._kept.can_keep
        readings = [self._kept.begin(tagged) if keeps else Reading(tagged, 0) for _, tagged in solutions]
        found: dict[int, list[float | None]] = {}
        for batch in batches_by_length([reading.num_new for reading in readings], self.batch_tokens):
            chosen = [readings[index] for index in batch]
            read = self._read_on(chosen) if keeps else self.probabilities([one.tagged for one in chosen])
            for index, reading, scores in zip(batch, chosen, read, strict=True):
                found[index] = [*[None] * reading.num_known_tags, *scores]
        return [found[index] for index in range(len(solutions))]

    @cached_property
    def _kept(self) -> KeptReading:
        return KeptReading(self.model)

    @torch.inference_mode()
    def _read_on(self, batch: Sequence[Reading]) -> list[list[float]]:
        """Return P(good) of the steps of one batch that were not read before."""
        check_token(self.model, max(int(reading.tagged.ids.max()) for reading in batch))
        self.num_tokens += sum(reading.num_new for reading in batch)
        self.num_padded += len(batch) * max(reading.num_new for reading in batch)
        good_N = good_probability(self.prm_format, self._kept.read(batch, self.tagger.rows)).cpu()
        self.check_finite(good_N)
        counts = [len(reading.tagged.tags) - reading.num_known_tags for reading in batch]
        return [part.tolist() for part in good_N.split(counts)]

    def check_finite(self, scores: Tensor) -> None:
        """Raise UserError if scores are NaN or infinite."""
        if not bool(scores.isfinite().all()):
            raise UserError(f"{self.name} produced NaN or infinite scores; its weights may be corrupt")

    def probabilities(self, batch: Sequence[Tagged]) -> list[list[float]]:
        """Return P(good) of every step of every solution of one batch, in one forward pass."""
        good_N = self.probabilities_on_device(batch).cpu()
        self.check_finite(good_N)
        return [part.tolist() for part in good_N.split([len(tagged.tags) for tagged in batch])]

    @torch.inference_mode()
    def probabilities_on_device(self, batch: Sequence[Tagged]) -> Tensor:
        """Return P(good) [N] of the steps of all solutions of one batch, on the device of the model."""
        ids_BT = pad([tagged.ids for tagged in batch])
        check_token(self.model, int(ids_BT.max()))
        position_N = flat_positions([tagged.tags for tagged in batch], ids_BT.shape[1])
        self.num_tokens += sum(len(tagged.ids) for tagged in batch)
        self.num_padded += ids_BT.numel()
        device = self.model.device
        with output_at(self.model, position_N.to(device), self.tagger.rows):
            logits_NR = self.model(input_ids=ids_BT.to(device), use_cache=False).logits
        return good_probability(self.prm_format, logits_NR)


def good_probability(prm_format: PrmFormat, logits_NR: Tensor) -> Tensor:
    """Return P(good) [N], in float32, from the logits of the rows that `prm_format` reads (`Tagger.rows`)."""
    logits_NR = logits_NR.float()
    if prm_format.kind == "value":
        return logits_NR[:, 0].sigmoid()
    good = [0] if prm_format.kind == "token" else list(prm_format.labels)
    return logits_NR.softmax(-1)[:, good].sum(-1).clamp(max=1.0)  # rounding may make a sum exceed 1


class Window(NamedTuple):
    """Solutions that are batched together."""

    rows: list[tuple[Row, int]]  # each with the index of its solution in `distinct`
    distinct: list[Tagged]


def read_window(solutions: Iterator[tuple[Row, Tagged]], num_tokens: int) -> Window | None:
    """Return the next solutions, of which the different ones have `num_tokens` tokens; None at the end.

    Candidates of one problem are often equal, above all those of a small policy at a low temperature. A
    window never has more than WINDOW_COPIES times `num_tokens` tokens, copies included.
    """
    window = Window([], [])
    known: dict[tuple[bytes, bytes], int] = {}
    left, left_with_copies = num_tokens, WINDOW_COPIES * num_tokens
    while left > 0 and left_with_copies > 0 and (solution := next(solutions, None)) is not None:
        row, tagged = solution
        index = known.setdefault((tagged.ids.tobytes(), tagged.tags.tobytes()), len(known))
        window.rows.append((row, index))
        left_with_copies -= len(tagged.ids)
        if index == len(window.distinct):
            window.distinct.append(tagged)
            left -= len(tagged.ids)
    return window if window.rows else None


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield the indices of `lengths`, longest first, in batches of at most `batch_tokens` padded tokens.

    A longer sequence gets a batch of its own.

    >>> list(batches_by_length([2, 9, 3, 3], 9))
    [[1], [2, 3, 0]]
    """
    order = iter(sorted(range(len(lengths)), key=lambda index: -lengths[index]))
    for first in order:
        yield [first, *islice(order, max(0, batch_tokens // lengths[first] - 1))]
