"""Text to token ids with one tag per step: where a PRM is read."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erprm_cli.errors import RowError, UserError
from erprm_cli.prm.formats import PrmFormat


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
