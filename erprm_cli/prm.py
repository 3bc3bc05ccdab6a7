"""A process reward model at work: text to tagged tokens, tags to probabilities.

P(step l is good) = softmax over the logits of `good` and `bad` at the tag after step l (arXiv 2412.11006,
section 4.1), or what else the model's format says (prm_formats.py). Only the tags pass the output layer, and
only the rows of it that are read.

B solutions, T tokens (padded), D width of the model, N tags of all B solutions, L steps of one solution,
R rows of the output layer that are read
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
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
from erprm_cli.labels import relabel
from erprm_cli.prm_formats import PrmFormat, known_format, prm_format, prm_format_names
from erprm_cli.prm_loading import load_prm

CARD = "erprm.json"  # what a PRM folder says of itself
WINDOW_BATCHES = 16  # full batches sorted together: enough that few tokens are padding
BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536}


@dataclass(frozen=True, slots=True)
class Tagged:
    """One solution as token ids [T], which end with the last tag, and the index of each step's tag [L].

    A tag here is the token at which a step is judged, wherever the format places it.
    """

    ids: NDArray[np.int32]
    tags: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TokenIds:
    """The token ids of a format's tag and of its two verdicts; None for what the format does not have."""

    tag: int | None
    good: int | None
    bad: int | None


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
        self.separator = self._ids(form.tag) if form.build == "pieces" else []
        tag = self._single(form.tag, after="a") if form.build in ("text", "chat") else None
        self.token_ids = TokenIds(
            self.separator[-1] if self.separator else tag,
            self._single(form.good) if form.kind == "token" or form.build == "turns" else None,
            self._single(form.bad) if form.kind == "token" else None,
        )
        found = [token for token in asdict(self.token_ids).values() if token is not None]
        if len({*found}) < len(found):
            raise UserError(
                f"tag, good and bad of {form.name} must be three different tokens, but are {self.token_ids}"
            )

    @property
    def rows(self) -> tuple[int, ...]:
        """The R rows of the output layer that the format reads: of a language model, or of a head."""
        if self.form.kind == "token":
            assert self.token_ids.good is not None and self.token_ids.bad is not None
            return self.token_ids.good, self.token_ids.bad
        return tuple(range(self.form.num_labels if self.form.kind == "head" else 1))

    def _ids(self, text: str) -> list[int]:
        """Return the token ids of a piece of text, without special tokens around it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _single(self, word: str, after: str = "") -> int:
        """Return the one token that is all of `word`, `after` a text; only blanks may stand in tokens before.

        Equals encode(word)[-1] of the released code wherever that is sound. A tag is looked for after a
        letter, as it will stand: Mistral's tokenizer has another " ки" at the beginning of a text.
        """
        text = after + word
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if encoding.input_ids:
            token_id = int(encoding.input_ids[-1])
            begin, end = encoding.offset_mapping[-1]
            if (
                text[begin:end].strip() == word.strip()
                and begin >= len(after)
                and token_id != self.tokenizer.unk_token_id
            ):
                return token_id
        raise UserError(
            f"{word!r} is not one token of {self.tokenizer.name_or_path}; add it to the vocabulary with "
            "tokenizer.add_tokens and model.resize_token_embeddings, or take another base model"
        )

    def encode(self, problem: str, steps: Sequence[str]) -> Tagged:
        """Tokenise one solution; what follows the last tag is dropped, as no tag can see it.

        Raises RowError if the token at a tag is not the tag's, or if the solution is too long. A tag that
        cannot be found is never passed over.
        """
        ids, tags = (
            self._pieces(problem, steps) if self.form.build == "pieces" else self._text(problem, steps)
        )
        tags = [tag + self.form.offset for tag in tags]
        if not all(before < tag for before, tag in pairwise([-1, *tags])):
            raise RowError(f"a step has no token of its own, and the format {self.form.name} judges it there")
        ids = ids[: tags[-1] + 1]
        assert len(tags) == len(steps)
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            raise TooLong(len(ids), self.max_tokens)
        return Tagged(np.array(ids, np.int32), np.array(tags, np.int32))

    def _pieces(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        """Tokenise prompt, steps and tags one by one; return the ids and where each tag ends."""
        begin = self.tokenizer.bos_token_id
        ids = [*([] if begin is None else [begin]), *self._ids(self.form.fill(problem))]
        tags = []
        for step in steps:
            ids += self._ids(step) + self.separator
            tags.append(len(ids) - 1)
        return ids, tags

    def _text(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        """Tokenise a solution as one text; return the ids and the index of each tag (in turns, answer)."""
        text, ends = self.render(problem, steps)
        encoding = self.tokenizer(text, add_special_tokens=self.form.build == "text", verbose=False)
        ids = encoding.input_ids
        word = self.form.good if self.form.build == "turns" else self.form.tag
        token_id = self.token_ids.good if self.form.build == "turns" else self.token_ids.tag
        tags = [encoding.char_to_token(end) for end in ends]
        width = len(word.strip()) or 1
        for number, (tag, end) in enumerate(zip(tags, ends, strict=True), start=1):
            if tag is None or ids[tag] != token_id or encoding.char_to_token(end - width + 1) != tag:
                there = "no token" if tag is None else repr(self.tokenizer.convert_ids_to_tokens(ids[tag]))
                raise RowError(
                    f"step {number}: the tag {word!r} is not one token in "
                    f"...{text[max(0, end - 12) : end + 8]!r}...: there is {there} instead of token "
                    f"{token_id}; this tokenizer does not suit the format {self.form.name}, take a base "
                    "model whose tokenizer keeps the tag apart"
                )
        return ids, tags

    def render(self, problem: str, steps: Sequence[str]) -> tuple[str, list[int]]:
        """Return the text that is tokenised, and for each step the character at which its tag ends.

        In turns it is the answer's character; pieces have no text of their own and are shown joined.
        """
        form = self.form
        if form.build in ("text", "pieces"):
            return form.render(problem, steps)
        system = [{"role": "system", "content": form.system}] if form.system else []
        if form.build == "chat":
            turns = [*system, {"role": "user", "content": form.fill(problem)}]
            before = self._chat(turns, add_generation_prompt=True)
            body, ends = form.join(steps, before)
            text = self._chat([*turns, {"role": "assistant", "content": body[len(before) :]}])
            if not text.startswith(body):
                raise RowError(self._rewritten("the assistant's turn"))
            return text, ends
        turns, ends = system, []
        for number, step in enumerate(steps):
            said = (form.fill(problem) if not number else "") + step + form.tag
            turns = [*turns, {"role": "user", "content": said}]
            ends.append(len(self._chat(turns, add_generation_prompt=True)))
            turns.append({"role": "assistant", "content": form.good})
        text = self._chat(turns)
        for number, end in enumerate(ends):
            begin = text.find(form.good, end)
            if begin < 0 or text[end:begin].strip():
                raise RowError(self._rewritten(f"the answer to step {number + 1}"))
            ends[number] = begin + len(form.good) - 1
        return text, ends

    def _chat(self, turns: list[dict[str, str]], add_generation_prompt: bool = False) -> str:
        if getattr(self.tokenizer, "chat_template", None) is None:
            raise UserError(
                f"the PRM format {self.form.name} is a chat, but {self.tokenizer.name_or_path} has no chat "
                "template"
            )
        text: str = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return text

    def _rewritten(self, what: str) -> str:
        return (
            f"the chat template of {self.tokenizer.name_or_path} rewrites {what}, so no tag can be found in "
            f"it; the format {self.form.name} does not suit this solution or this model"
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
    checkpoints stay as they are. The rows are multiplied in float32, as probabilities are made of a
    difference of logits which bfloat16 rounds to 1/16. With `rows` None, all rows in the model's own type.
    The output layer of a token classification model is its `score`, whose rows are the classes.
    """
    head: Any = model.get_output_embeddings() or model.score  # type: ignore[operator]  # PreTrainedModel's
    last: Any
    *layers, last = head if isinstance(head, nn.Sequential) else [head]
    chosen = None if rows is None else list(rows)

    def forward(hidden_BTD: Tensor) -> Tensor:
        hidden_ND = hidden_BTD.flatten(0, -2)[position_N]
        if chosen is None:
            return type(head).forward(head, hidden_ND)  # type: ignore[no-any-return]
        bias = None if getattr(last, "bias", None) is None else last.bias[chosen].float()
        with torch.autocast(hidden_ND.device.type, enabled=False):
            for layer in layers:  # of Qwen's head, which load_prm keeps in float32
                hidden_ND = layer(hidden_ND.float())
            return linear(hidden_ND.float(), last.weight[chosen].float(), bias)

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
        tokenizer = models.load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
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
        device = models.pick_device()
        self.model = load_prm(
            self.name,
            self.form,
            dtype=models.pick_dtype(dtype, device),
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


def open_scorer(
    config: EngineConfig, batch_tokens: int = 0, form: str | None = None, eta: float | None = None
) -> Scorer:
    """Load the PRM behind the engine that `config` names; auto is transformers. `form`, `eta`: see Scorer."""
    if config.engine == "server":
        raise UsageError("a server does not score; --engine takes transformers or vllm here")
    if config.engine == "vllm":
        from erprm_cli.prm_vllm import VllmScorer

        return VllmScorer(config, form, eta)
    return Scorer(
        config.model,
        form=form,
        eta=eta,
        dtype=config.dtype,
        batch_tokens=batch_tokens,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        allow_pickle=config.allow_pickle,
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


def format_of(name: str, card: Row | None = None, form: str | None = None) -> PrmFormat:
    """Return the format that is asked for, else the card's, else that of a known model; or UsageError."""
    if form is not None:
        return prm_format(form)
    if card is not None:
        try:
            return PrmFormat(**card["format"])
        except TypeError as error:
            raise UserError(f"{name}: the format in {CARD} is not one of this version: {error}") from None
    known = known_format(name)
    if known is None:
        raise UsageError(
            f"{name} has no {CARD} and is no public PRM known here, so --prm-format must say how it is read: "
            f"{', '.join(prm_format_names())}, or a .toml file"
        )
    return prm_format(known)


def eta_learned(name: str, card: Row | None) -> float:
    """Return the eta of the labels that a model's scores are: 0, of rates, unless its card says another."""
    if card is None or card.get("settings", {}).get("target") == "counts" or "eta" not in card:
        return 0.0
    eta = card["eta"]
    if eta is None:
        raise UsageError(
            f"{name} has learned labels at an infinite eta, from which no other can be made; leave --eta out"
        )
    return float(eta)


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
