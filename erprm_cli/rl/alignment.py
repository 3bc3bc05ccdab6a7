"""Steps, tokens and tags aligned: the step of each token of the policy, and the PRM's input from its ids.

A step may begin or end inside a token, such as ".\\n". A token belongs to the step in which it begins; one
between two steps belongs to the later step, and what follows the last step, to the last.

If policy and PRM have the same tokenizer, the input of the PRM is put together from the policy's ids: the
inside of each step is copied, and only the seams between steps are tokenised, once each, as they are few:

    policy   ... | 5 | .\\n | Step |  2 | : | ...
    PRM      ... | 5 | . |  ки | Step |  2 | : | ...
                  ^^^^^^^^^^^^^^^^^^^^^^^^ a seam: the last tokens of a step, the tag, the first of the next

T tokens of a completion, L steps
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from tokenizers.decoders import DecodeStream

from erprm_cli.prm.tagger import Tagged, Tagger

MARGIN = 2  # tokens of a step on each side of a seam that are tokenised with it
SEAMS = 65_536  # kept in memory


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a completion as places in its text; L steps."""

    text: str
    begins: tuple[int, ...]  # [L] characters
    ends: tuple[int, ...]  # [L]


class TokenTexts:
    """The text of each token of a tokenizer, and where tokens end in a text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._texts: dict[int, str] = {}

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens too, without any clean-up."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def ends(self, ids: Sequence[int], text: str) -> NDArray[np.int64]:
        """Return the end of each token [T] in `text`, the text of all `ids` or the beginning of it.

        Of tokens that make one character together, all but the last are empty.
        """
        pieces = [self._text(token) for token in ids]
        if not "".join(pieces).startswith(text):
            stream = DecodeStream(skip_special_tokens=False)
            pieces = [stream.step(self.tokenizer._tokenizer, token) or "" for token in ids]
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        return lengths.cumsum().clip(max=len(text))

    def _text(self, token: int) -> str:
        if token not in self._texts:
            # The second of two: the first would lose its leading space in some tokenizers.
            self._texts[token] = self.decode([token, token])[len(self.decode([token])) :]
        return self._texts[token]


def step_of_tokens(token_ends: NDArray[np.int64], step_ends: Sequence[int]) -> NDArray[np.int64]:
    """Return the step [T] of each token, from 0: the first one that ends after the token begins.

    >>> step_of_tokens(np.array([3, 5, 6, 9, 9]), [4, 9]).tolist()
    [0, 0, 1, 1, 1]
    """
    begins = np.concatenate([[0], token_ends[:-1]]).astype(np.int64)
    return np.searchsorted(step_ends, begins, side="right").clip(max=len(step_ends) - 1)


def same_tokenizer(one: Any, other: Any) -> bool:
    """Return whether two tokenizers turn any text without added tokens into the same ids."""
    parts = ("model", "pre_tokenizer", "normalizer")
    settings = [orjson.loads(tokenizer.backend_tokenizer.to_str()) for tokenizer in (one, other)]
    return all(settings[0][part] == settings[1][part] for part in parts)


class TokenTagger:
    """Makes the input of a PRM from the ids of a policy with the same tokenizer."""

    def __init__(self, tagger: Tagger, policy_tokenizer: Any) -> None:
        """`tagger` is the PRM's."""
        self.tagger = tagger
        self.is_usable = (
            tagger.prm_format.build == "text"
            and not tagger.prm_format.offset
            and policy_tokenizer.is_fast
            and same_tokenizer(tagger.tokenizer, policy_tokenizer)
        )
        self._seam = lru_cache(SEAMS)(self._tokenise)

    def encode(
        self, problem: str, steps: Steps, ids: Sequence[int], token_ends: NDArray[np.int64]
    ) -> Tagged | None:
        """Return the input of the PRM; None if the text has to be tokenised as a whole.

        That is so if the tokenizers differ, or if the tokens around a seam are not those of the policy, so
        that it is uncertain where a tokenizer would cut.
        """
        if not self.is_usable:
            return None
        prm_format = self.tagger.prm_format
        token_begins = np.concatenate([[0], token_ends[:-1]]).astype(np.int64)
        found: list[int] = []
        tags: list[int] = []
        seam, before = prm_format.fill(problem), None
        seam_tags: tuple[int, ...] = ()
        for number, (begin, end) in enumerate(zip(steps.begins, steps.ends, strict=True)):
            seam += prm_format.between if number else ""
            first = int(np.searchsorted(token_begins, begin, side="left")) + MARGIN
            last = int(np.searchsorted(token_ends, end, side="right")) - MARGIN
            if first < last:
                seam += steps.text[begin : token_begins[first]]
                part = self._seam(seam, seam_tags, not found)
                if part is None or part[0][-1] != ids[first - 1] or before not in (None, part[0][0]):
                    return None
                tags += [len(found) + tag for tag in part[1]]
                found += [*part[0], *ids[first:last]]
                seam, seam_tags, before = steps.text[token_begins[last] : end], (), ids[last]
            else:
                seam += steps.text[begin:end]
            seam += prm_format.tag
            seam_tags = (*seam_tags, len(seam) - 1)
        part = self._seam(seam, seam_tags, not found)
        if part is None or before not in (None, part[0][0]):
            return None
        tags += [len(found) + tag for tag in part[1]]
        found += part[0]
        return Tagged(np.array(found[: tags[-1] + 1], np.int32), np.array(tags, np.int32))

    def _tokenise(
        self, text: str, ends: tuple[int, ...], is_first: bool
    ) -> tuple[list[int], list[int]] | None:
        """Return the ids of a seam and the index of each tag that ends at one of `ends`."""
        tagger = self.tagger
        encoding = tagger.tokenizer(text, add_special_tokens=is_first, verbose=False)
        ids: list[int] = encoding.input_ids
        if is_first and ids and ids[-1] == tagger.tokenizer.eos_token_id:
            ids = ids[:-1]
        tags = [encoding.char_to_token(end) for end in ends]
        width = len(tagger.prm_format.tag.strip()) or 1
        for tag, end in zip(tags, ends, strict=True):
            if tag is None or ids[tag] != tagger.token_ids.tag:
                return None
            if encoding.char_to_token(end - width + 1) != tag:
                return None
        return (ids, tags) if ids else None
