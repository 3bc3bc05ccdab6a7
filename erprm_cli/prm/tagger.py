"""Text to token ids with one tag per step, the token at which a PRM scores that step."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erprm_cli import shipped
from erprm_cli.errors import RowError, UserError
from erprm_cli.models.chat_template import Turn, render_chat
from erprm_cli.prm.formats import PrmFormat, load_prm_format

ANSWER = "<<answer>>"  # the assistant's turn when a chat template is rendered to see where it begins
# A turn after the assistant's, which is cut off again. Chat templates of thinking models treat the last
# answer in another way: Qwen3's puts an empty thought before it.
NEXT = {"role": "user", "content": "Go on."}
DATE = "2024-07-26"  # for templates that ask for the date: scores are the same on any day. It is Llama 3.1's
EXAMPLE = ("First, 2 + 3 = 5.", "Then \\[5\\]", "So \\boxed{5}", "The answer is: 5")

MAX_TOKEN_ID = 2**31 - 1  # ids are kept as int32


@dataclass(frozen=True, slots=True)
class Tagged:
    """One solution as token ids, with the place of each step's tag.

    The tag of a step is the token at which it is scored, wherever the format puts it.
    """

    ids: NDArray[np.int32]  # [T], ends with the last tag
    tags: NDArray[np.int32]  # [L], indices into ids


@dataclass(frozen=True, slots=True)
class TokenIds:
    """The token ids of a format's tag, `good` and `bad`; None if the format does not have one."""

    tag: int | None
    good: int | None
    bad: int | None


class Tagger:
    """Turns a problem and its steps into token ids with a known tag for every step."""

    def __init__(self, prm_format: PrmFormat, tokenizer: Any, max_tokens: int | None = None) -> None:
        """Find the ids of the tag, `good` and `bad`; UserError if one of them is not a single token.

        A solution of more than `max_tokens` tokens is refused by `encode`.
        """
        if not tokenizer.is_fast:
            raise UserError(
                f"the tokenizer {tokenizer.name_or_path} does not give character offsets of tokens; a PRM "
                "needs a fast tokenizer (one with a tokenizer.json)"
            )
        self.prm_format = prm_format
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.separator = self._ids(prm_format.tag) if prm_format.build == "pieces" else []
        tag = self._single(prm_format.tag, after="a") if prm_format.build in ("text", "chat") else None
        self.token_ids = TokenIds(
            self.separator[-1] if self.separator else tag,
            self._single(prm_format.good)
            if prm_format.kind == "token" or prm_format.build == "turns"
            else None,
            self._single(prm_format.bad) if prm_format.kind == "token" else None,
        )
        found = [token for token in asdict(self.token_ids).values() if token is not None]
        if len({*found}) < len(found):
            raise UserError(
                f"tag, good and bad of {prm_format.name} must be three different tokens, not {self.token_ids}"
            )

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows of the output layer that the format reads: tokens, or classes of a head."""
        if self.prm_format.kind == "token":
            assert self.token_ids.good is not None and self.token_ids.bad is not None
            return self.token_ids.good, self.token_ids.bad
        return tuple(range(self.prm_format.num_labels if self.prm_format.kind == "head" else 1))

    def _ids(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens around it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _single(self, word: str, after: str = "") -> int:
        """Return the single token of `word` after the text `after`; spaces may be tokens of their own.

        This equals encode(word)[-1] of the released code where that code is right. The tag is looked up after
        a letter because it follows one in a solution: at the beginning of a text, Mistral's tokenizer has
        another token for " ки".
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
            f"{word!r} is not a single token of {self.tokenizer.name_or_path}; add it to the vocabulary with "
            "tokenizer.add_tokens and model.resize_token_embeddings, or use another base model"
            + self._suitable
        )

    def encode(self, problem: str, steps: Sequence[str]) -> Tagged:
        """Tokenise one solution. Tokens after the last tag are dropped, since a causal model ignores them.

        Raises RowError if the token at a tag's place is not the tag, so that no step goes without a score,
        and TooLong if the solution has more than `max_tokens` tokens.
        """
        ids, tags = (
            self._pieces(problem, steps) if self.prm_format.build == "pieces" else self._text(problem, steps)
        )
        tags = [tag + self.prm_format.offset for tag in tags]
        if not all(before < tag for before, tag in pairwise([-1, *tags, len(ids)])):
            raise RowError(
                f"a step has no token of its own, at which the format {self.prm_format.name} would score it"
            )
        ids = ids[: tags[-1] + 1]
        assert len(tags) == len(steps)
        if max(ids) > MAX_TOKEN_ID:
            raise RowError(f"the tokenizer gives the token {max(ids):,}, which no model has")
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            raise TooLong(len(ids), self.max_tokens)
        return Tagged(np.array(ids, np.int32), np.array(tags, np.int32))

    def _pieces(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        """Tokenise prompt, steps and tags one by one; return the ids and the end of each tag."""
        begin = self.tokenizer.bos_token_id
        ids = [*([] if begin is None else [begin]), *self._ids(self.prm_format.fill(problem))]
        tags = []
        for step in steps:
            ids += self._ids(step) + self.separator
            tags.append(len(ids) - 1)
        return ids, tags

    def _text(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        """Tokenise a solution as one text; return the ids and the index of each tag (in turns, answer)."""
        text, ends = self.render(problem, steps)
        encoding = self.tokenizer(text, add_special_tokens=self.prm_format.build == "text", verbose=False)
        ids = encoding.input_ids
        word = self.prm_format.good if self.prm_format.build == "turns" else self.prm_format.tag
        token_id = self.token_ids.good if self.prm_format.build == "turns" else self.token_ids.tag
        tags = [encoding.char_to_token(end) for end in ends]
        width = len(word.strip()) or 1
        for number, (tag, end) in enumerate(zip(tags, ends, strict=True), start=1):
            if tag is None or ids[tag] != token_id or encoding.char_to_token(end - width + 1) != tag:
                found = "no token" if tag is None else repr(self.tokenizer.convert_ids_to_tokens(ids[tag]))
                place = f"...{text[max(0, end - 12) : end + 8]!r}..."
                raise RowError(
                    f"step {number}: the tag {word!r} is not one token in {place}: found {found} instead of "
                    f"token {token_id}; "
                    + (
                        "remove the space at the end of the step, as `erprm convert` does"
                        if word[0].isspace() and text[end - len(word)].isspace()
                        else f"this tokenizer does not suit the format {self.prm_format.name}, use a base "
                        f"model whose tokenizer keeps the tag separate{self._suitable}"
                    )
                )
        return ids, tags

    def render(self, problem: str, steps: Sequence[str]) -> tuple[str, list[int]]:
        """Return the text that is tokenised, and for each step the index of the last character of its tag.

        In turns, it is the last character of the answer. A chat ends there too. Pieces are tokenised one by
        one, so their text is only for people.
        """
        prm_format = self.prm_format
        if prm_format.build in ("text", "pieces"):
            return prm_format.render(problem, steps)
        system = [{"role": "system", "content": prm_format.system}] if prm_format.system else []
        if prm_format.build == "chat":
            turns = [*system, {"role": "user", "content": prm_format.fill(problem)}]
            before = self._before_answer(turns)
            body, ends = prm_format.join(steps, before)
            text = self._chat([*turns, {"role": "assistant", "content": body[len(before) :]}, NEXT])
            if not text.startswith(body):
                raise RowError(self._rewritten("the assistant's turn"))
            return body, ends
        turns, answered = system, [""]
        for number, step in enumerate(steps):
            content = (prm_format.fill(problem) if not number else "") + step + prm_format.tag
            turns = [*turns, {"role": "user", "content": content}]
            answered.append(self._before_answer(turns) + prm_format.good)
            if not answered[-1].startswith(answered[-2]):
                raise RowError(self._rewritten(f"the answer to step {number}"))
            turns.append({"role": "assistant", "content": prm_format.good})
        return answered[-1], [len(text) - 1 for text in answered[1:]]

    def _before_answer(self, turns: list[Turn]) -> str:
        """Return the text of a chat up to where the content of the assistant's answer to it begins."""
        text = self._chat([*turns, {"role": "assistant", "content": ANSWER}, NEXT])
        before, found, _ = text.rpartition(ANSWER)
        if not found:
            raise RowError(self._rewritten("the assistant's turn"))
        return before

    def _chat(self, turns: list[Turn]) -> str:
        template = self.prm_format.chat_template
        has_own = getattr(self.tokenizer, "chat_template", None) is not None
        return render_chat(
            self.tokenizer,
            turns,
            today=DATE,
            needs=f"the PRM format {self.prm_format.name} needs a chat template",
            **({} if has_own or not template else {"chat_template": template}),
        )

    def _rewritten(self, what: str) -> str:
        return (
            f"the chat template of {self.tokenizer.name_or_path} changes {what}, so the tags cannot be "
            f"found; the format {self.prm_format.name} does not suit this solution or this model"
        )

    @cached_property
    def _suitable(self) -> str:
        """The end of an error: the formats that suit this tokenizer."""
        return f"; formats that suit this tokenizer: {', '.join(suitable_formats(self.tokenizer))}"


class _Trial(Tagger):
    """A tagger that finds out whether a format suits; its errors do not try the others."""

    _suitable = ""


def suitable_formats(tokenizer: Any) -> list[str]:
    """Return the shipped formats whose tags stay tokens of their own in an example, with this tokenizer."""
    found = []
    for name in shipped.names("prm"):
        with suppress(UserError, RowError):
            _Trial(load_prm_format(name), tokenizer).encode("Why?", EXAMPLE)
            found.append(name)
    return found


class TooLong(RowError):
    """The solution has more tokens than the model can read."""

    def __init__(self, num_tokens: int, max_tokens: int) -> None:
        super().__init__(
            f"{num_tokens} tokens, but the model reads at most {max_tokens}; shorten the solution"
        )
