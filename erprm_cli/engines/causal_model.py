"""A causal language model of transformers with its tokenizer: what continuous batching asks of it."""

import os
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from erprm_cli.engines.rolling_cache import GROUPED, KeysValues
from erprm_cli.errors import UsageError
from erprm_cli.models.end_tokens import as_list, end_tokens
from erprm_cli.models.outputs import check_token, max_positions

MAX_SLOTS = 512
PROMPT_TOKENS = 512  # assumed per prompt when memory is divided among completions


class CausalModel:
    """A decoder that is read into keys and values, and the text of its tokens."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Take a model on its device; UsageError if its cache does not consist of keys and values."""
        self.model, self.tokenizer = model.eval(), tokenizer
        config = model.config.get_text_config()
        self.vocab_size: int = config.vocab_size
        self.max_length = max_positions(model.config)  # tokens of prompt and completion; None: unknown
        cache = None if model.config.is_encoder_decoder else DynamicCache(config=config)
        if cache is None or not all(isinstance(layer, DynamicLayer) for layer in cache.layers):
            raise UsageError(
                "the transformers engine supports decoder-only attention models only, not "
                f"{type(model).__name__}; --engine vllm may support it"
            )
        if model.config._attn_implementation == "sdpa":
            model.set_attn_implementation(GROUPED)
        ends = end_tokens(model) + as_list(tokenizer.eos_token_id)
        self.eos_ids = frozenset(token for token in ends if token < self.vocab_size)
        self._token_texts: list[str] = []
        self.cache_examples = self.prefill([[0]])

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]

    def free(self) -> None:
        """Release the memory of the model."""
        self.model = None
        self.cache_examples = []
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def prefill(self, rows: Sequence[Sequence[int]]) -> list[KeysValues]:
        """Return keys and values of each layer, [rows, H, P, D]; shorter rows are padded on the right.

        A causal model needs no mask for padding on the right.
        """
        check_token(self.model, max(map(max, rows)))
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.device)
        positions = torch.arange(longest, device=self.device)[None]
        # No config is given: sliding-window layers would keep the last columns only, here mostly padding.
        cache = DynamicCache()
        self.model.base_model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True)
        return [
            cast(KeysValues, (layer.keys, layer.values)) for layer in cast(list[DynamicLayer], cache.layers)
        ]

    def slots_in_memory(self, max_tokens: int) -> int:
        """Return how many completions of `max_tokens` fit into half of the free memory, 1 to MAX_SLOTS."""
        column_bytes = sum(states[0, :, 0].nbytes for layer in self.cache_examples for states in layer)
        length = PROMPT_TOKENS + max_tokens
        if self.max_length is not None:
            length = min(length, self.max_length)
        slot_bytes = (
            column_bytes * length + 20 * self.vocab_size
        )  # logits, and what drawing derives from them
        if self.device.type == "cuda":
            free_bytes = torch.cuda.mem_get_info(self.device)[0]
        else:
            free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return max(1, min(MAX_SLOTS, free_bytes // 2 // slot_bytes))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens too, without any clean-up."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def tokens_with(self, characters: set[str]) -> list[int]:
        """Return the tokens whose text may contain one of `characters`."""
        if not self._token_texts:
            ids = range(min(len(self.tokenizer), self.vocab_size))
            pieces = self.tokenizer.convert_ids_to_tokens(list(ids))
            self._token_texts = [
                # Decoded alone, a token may lose its leading space.
                self.decode([index]) + (" " if piece and piece[0] in "▁Ġ" else "")
                for index, piece in zip(ids, pieces, strict=True)
            ]
        wanted = characters | {"\ufffd"}  # a token of incomplete UTF-8 may be part of any character
        return [index for index, text in enumerate(self._token_texts) if not wanted.isdisjoint(text)]
