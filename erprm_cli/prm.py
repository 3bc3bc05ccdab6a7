"""A process reward model at work: text to tagged tokens, tags to probabilities.

P(step l is good) = softmax over the logits of `good` and `bad` at the tag after step l (arXiv 2412.11006,
section 4.1). Only the tags pass the output layer, and only two of its rows are read.

B solutions, T tokens (padded), D width of the model, N tags of all B solutions, L steps of one solution
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear

from erprm_cli import models
from erprm_cli.engines import EngineConfig
from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.jsonl import Row
from erprm_cli.prm_formats import ER_PRM, PrmFormat, prm_format

CARD = "erprm.json"  # what a PRM folder says of itself
WINDOW_BATCHES = 16  # full batches sorted together: enough that few tokens are padding
BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536}


@dataclass(frozen=True, slots=True)
class Tagged:
    """One solution as token ids [T], which end with the last tag, and the index of each step's tag [L]."""

    ids: NDArray[np.int32]
    tags: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TokenIds:
    """The token ids of a format's tag and of its two verdicts."""

    tag: int
    good: int
    bad: int


def max_positions(config: Any) -> int | None:
    """Return how many tokens a model of this configuration can read, or None if it does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


class Tagger:
    """Turns a problem and its steps into token ids with one known tag per step, or says why it cannot."""

    def __init__(self, form: PrmFormat, tokenizer: Any, max_tokens: int | None = None) -> None:
        """Resolve the tokens of `form`; UserError if one of them is not a token of its own."""
        if not tokenizer.is_fast:
            raise UserError(
                f"the tokenizer {tokenizer.name_or_path} does not tell where its tokens stand in a text; "
                "a PRM needs a fast one (with a tokenizer.json)"
            )
        self.form = form
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.token_ids = TokenIds(*(self._single(word) for word in (form.tag, form.good, form.bad)))
        if len({*asdict(self.token_ids).values()}) < 3:
            raise UserError(
                f"tag, good and bad of {form.name} must be three different tokens, but are {self.token_ids}"
            )

    def _single(self, word: str) -> int:
        """Return the one token that is all of `word`; only blanks may stand in tokens before it.

        Equals encode(word)[-1] of the released code wherever that is sound.
        """
        encoding = self.tokenizer(word, add_special_tokens=False, return_offsets_mapping=True)
        if encoding.input_ids:
            token_id = int(encoding.input_ids[-1])
            begin, end = encoding.offset_mapping[-1]
            if word[begin:end].strip() == word.strip() and token_id != self.tokenizer.unk_token_id:
                return token_id
        raise UserError(
            f"{word!r} is not one token of {self.tokenizer.name_or_path}; add it to the vocabulary with "
            "tokenizer.add_tokens and model.resize_token_embeddings, or take another base model"
        )

    def encode(self, problem: str, steps: Sequence[str]) -> Tagged:
        """Tokenise one solution with the tokenizer's special tokens; what follows the last tag is dropped.

        Raises RowError if the token at a tag is not the tag's, or if the solution is too long. A tag that
        cannot be found is never passed over.
        """
        text, tag_ends = self.form.render(problem, steps)
        encoding = self.tokenizer(text, verbose=False)
        ids = encoding.input_ids
        tags = [encoding.char_to_token(end) for end in tag_ends]
        width = len(self.form.tag.strip())
        for number, (tag, end) in enumerate(zip(tags, tag_ends, strict=True), start=1):
            if (
                tag is None
                or ids[tag] != self.token_ids.tag
                or encoding.char_to_token(end - width + 1) != tag
            ):
                raise RowError(self._misfit(number, text, end, ids, tag))
        ids = ids[: tags[-1] + 1]
        assert len(tags) == len(set(tags)) == len(steps)
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            raise TooLong(len(ids), self.max_tokens)
        return Tagged(np.array(ids, np.int32), np.array(tags, np.int32))

    def _misfit(self, number: int, text: str, end: int, ids: list[int], tag: int | None) -> str:
        """Say what stands where the tag of step `number` should."""
        there = "no token" if tag is None else repr(self.tokenizer.convert_ids_to_tokens(ids[tag]))
        context = text[max(0, end - 12) : end + 8]
        return (
            f"step {number}: the tag {self.form.tag!r} is not one token in ...{context!r}...: there is "
            f"{there} instead of token {self.token_ids.tag}; this tokenizer does not suit the format "
            f"{self.form.name}, take a base model whose tokenizer keeps the tag apart"
        )


class TooLong(RowError):
    """A solution of more tokens than can be read."""

    def __init__(self, num_tokens: int, max_tokens: int) -> None:
        super().__init__(f"{num_tokens} tokens, but at most {max_tokens} can be read; shorten the solution")


@contextmanager
def output_at(model: nn.Module, position_N: Tensor, rows: Sequence[int] | None = None) -> Iterator[None]:
    """Let the logits of the model, when called inside, be [N, len(rows)], at `position_N` of the flat [B*T].

    The output layer's forward is replaced and nothing else: whatever the architecture does to its logits
    afterwards (soft-capping, scaling), wrappers of the model (DDP, FSDP) and the layer's place in
    checkpoints stay as they are. The two rows are multiplied in float32, as probabilities are made of a
    difference of logits which bfloat16 rounds to 1/16. With `rows` None, all rows in the model's own type.
    """
    head: Any = model.get_output_embeddings()  # type: ignore[operator]  # of transformers' PreTrainedModel

    chosen = None if rows is None else list(rows)

    def forward(hidden_BTD: Tensor) -> Tensor:
        hidden_ND = hidden_BTD.flatten(0, -2)[position_N]
        if chosen is None:
            return type(head).forward(head, hidden_ND)  # type: ignore[no-any-return]
        bias = None if getattr(head, "bias", None) is None else head.bias[chosen].float()
        with torch.autocast(hidden_ND.device.type, enabled=False):
            return linear(hidden_ND.float(), head.weight[chosen].float(), bias)

    head.forward = forward
    try:
        yield
    finally:
        del head.forward


def pad(sequences: Sequence[NDArray[np.int32]]) -> Tensor:
    """Return [B, T] of token ids, padded on the right with 0.

    No attention mask goes with it: a causal model's tokens never look to their right, so what stands there
    does not matter, and attention without a mask is faster.
    """
    padded_BT = np.zeros((len(sequences), max(map(len, sequences))), np.int64)
    for row, ids in enumerate(sequences):
        padded_BT[row, : len(ids)] = ids
    return torch.from_numpy(padded_BT)


def flat_positions(positions: Sequence[NDArray[np.int32]], width: int) -> Tensor:
    """Return the places [N] in a flattened [B, width] of the positions of each of the B sequences."""
    places = [row * width + place.astype(np.int64) for row, place in enumerate(positions)]
    return torch.from_numpy(np.concatenate(places))


class Scorer:
    """A loaded PRM."""

    def __init__(
        self,
        name: str,
        *,
        dtype: str = "auto",
        batch_tokens: int = 0,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Load a folder or Hub name; without erprm.json in it, it is read as a PRM of the released format.

        At most `batch_tokens` tokens, padding included, are in one forward pass; 0 suits the device.
        """
        self.name = name
        self.card = read_card(name)  # None: the format is a guess
        # A model of outcomes learned the last tag alone, and what it says at the others means nothing.
        self.outcome_only = bool(self.card and self.card.get("settings", {}).get("outcome_only"))
        tokenizer = models.load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
        form = prm_format(ER_PRM) if self.card is None else PrmFormat(**self.card["format"])
        self.tagger = Tagger(form, tokenizer)
        token_ids = asdict(self.tagger.token_ids)
        if self.card is not None and self.card["token_ids"] != token_ids:
            raise UserError(
                f"{name}: {CARD} says {self.card['token_ids']}, but the tokenizer beside it gives "
                f"{token_ids}; the folder mixes the files of two models"
            )
        self.num_tokens = 0  # read so far
        self.num_padded = 0  # read so far, padding included
        self.load(
            dtype=dtype, batch_tokens=batch_tokens, revision=revision, trust_remote_code=trust_remote_code
        )

    def load(self, *, dtype: str, batch_tokens: int, revision: str | None, trust_remote_code: bool) -> None:
        """Load the model."""
        device = models.pick_device()
        self.model = models.load_causal_lm(
            self.name,
            dtype=models.pick_dtype(dtype, device),
            revision=revision,
            trust_remote_code=trust_remote_code,
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
        return row | {"scores": values, "prm": self.name}

    @torch.inference_mode()
    def probabilities(self, batch: Sequence[Tagged]) -> list[list[float]]:
        """Return P(good) of every step of every solution of one batch, in one forward pass."""
        ids_BT = pad([tagged.ids for tagged in batch])
        position_N = flat_positions([tagged.tags for tagged in batch], ids_BT.shape[1])
        self.num_tokens += sum(len(tagged.ids) for tagged in batch)
        self.num_padded += ids_BT.numel()
        token_ids, device = self.tagger.token_ids, self.model.device
        with output_at(self.model, position_N.to(device), (token_ids.good, token_ids.bad)):
            logits_N2 = self.model(input_ids=ids_BT.to(device), use_cache=False).logits
        good_N = logits_N2.float().softmax(-1)[:, 0].cpu()
        if not bool(good_N.isfinite().all()):
            raise UserError(f"{self.name} gives scores that are no numbers; its weights are broken")
        return [part.tolist() for part in good_N.split([len(tagged.tags) for tagged in batch])]


def open_scorer(config: EngineConfig, batch_tokens: int = 0) -> Scorer:
    """Load the PRM behind the engine that `config` names; auto is transformers."""
    if config.engine == "server":
        raise UsageError("a server does not score; --engine takes transformers or vllm here")
    if config.engine == "vllm":
        from erprm_cli.prm_vllm import VllmScorer

        return VllmScorer(config)
    return Scorer(
        config.model,
        dtype=config.dtype,
        batch_tokens=batch_tokens,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
    )


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


def read_card(name: str) -> Row | None:
    """Return erprm.json of a PRM folder, or None if it has none (then it is some other model)."""
    path = Path(models.resolve(name)) / CARD
    try:
        card: Row = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not {"format", "token_ids"} <= card.keys():
        raise UserError(f"{path} has no 'format' and 'token_ids'; `erprm train` writes them")
    return card
