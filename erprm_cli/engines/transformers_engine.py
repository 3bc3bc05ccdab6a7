"""Continuous batching on plain transformers models, for a CPU and for one GPU.

B slots decode together; a finished completion's slot goes to the next at once, so nobody waits for the
longest of a batch. A prompt is read once for all its completions, and prompts that continue one another once
altogether. See `rolling_cache` for how slots share one cache, `token_sampling` for why a completion does not
depend on the others.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from erprm_cli.engines.base import Completion, Request, SamplingParams, Usage
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.continuous_batching import MAX_SLOTS, NEVER, Run
from erprm_cli.engines.rolling_cache import GROUPED, KeysValues
from erprm_cli.errors import EngineError, UsageError
from erprm_cli.models.loading import load_causal_lm, load_tokenizer, pick_device, pick_dtype


class TransformersEngine:
    """A causal language model of transformers and what completes prompts with it.

    A prompt that leaves no room for a token within the model's max_position_embeddings does not stop a
    run: its completions are empty, of 0 tokens and finish_reason "length", and `usage.too_long` counts them.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 0) -> None:
        """Take a model on its device; UsageError if its cache is not made of keys and values.

        `batch_size` bounds the completions in flight; 0 lets memory decide.
        """
        self.model, self.tokenizer = model.eval(), tokenizer
        self.batch_size = batch_size
        self.usage = Usage()
        config = model.config.get_text_config()
        self.vocab_size: int = config.vocab_size
        self.max_length: int | None = getattr(config, "max_position_embeddings", None)
        cache = None if model.config.is_encoder_decoder else DynamicCache(config=config)
        if cache is None or not all(isinstance(layer, DynamicLayer) for layer in cache.layers):
            raise UsageError(
                f"the transformers engine runs decoders with attention only, not {type(model).__name__}"
            )
        if model.config._attn_implementation == "sdpa":
            model.set_attn_implementation(GROUPED)
        self.eos_ids = frozenset(_ids(model.generation_config.eos_token_id) + _ids(tokenizer.eos_token_id))
        self._token_texts: list[str] = []
        self.cache_examples = self.prefill([[0]])

    @classmethod
    def load(cls, config: EngineConfig) -> "TransformersEngine":
        """Load the model and tokenizer that `config` names onto the GPU, or the CPU if there is none."""
        device = pick_device()
        options: dict[str, Any] = {
            "revision": config.revision,
            "trust_remote_code": config.trust_remote_code,
        }
        tokenizer = load_tokenizer(config.model, **options)
        with _out_of_memory_explained("the model does not fit; a smaller --dtype may"):
            model = load_causal_lm(
                config.model,
                dtype=pick_dtype(config.dtype, device),
                allow_pickle=config.allow_pickle,
                **options,
            ).to(device)
        return cls(model, tokenizer, config.batch_size)

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        """Yield one completion per index of each request, in any order, as they finish.

        Equal (seed, index) give an equal completion whatever the batch size, the order and the other
        requests, but for rounding (see `token_sampling`).
        """
        with _out_of_memory_explained("a smaller --batch-size may help"):
            yield from Run(self, requests, params)

    def close(self) -> None:
        """Free the model."""
        self.model = None
        self.cache_examples = []
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens and otherwise as it is."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    @torch.inference_mode()
    def prefill(self, rows: Sequence[Sequence[int]]) -> list[KeysValues]:
        """Return keys and values of each layer, [rows, H, P, D]; shorter rows are padded on the right.

        Being causal, the model needs no mask for padding on the right.
        """
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.device)
        positions = torch.arange(longest, device=self.device)[None]
        cache = DynamicCache()  # told of no config: a sliding layer would forget what padding shifts out
        self.model.base_model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True)
        return [
            cast(KeysValues, (layer.keys, layer.values)) for layer in cast(list[DynamicLayer], cache.layers)
        ]

    def num_slots(self, params: SamplingParams) -> int:
        """Return how many completions fly at once: --batch-size, or what half of the free memory holds."""
        if self.batch_size:
            return self.batch_size
        column_bytes = sum(states[0, :, 0].nbytes for layer in self.cache_examples for states in layer)
        length = min(512 + params.max_tokens, self.max_length or NEVER)
        slot_bytes = column_bytes * length + 20 * self.vocab_size  # logits and what drawing makes of them
        if self.device.type == "cuda":
            free_bytes = torch.cuda.mem_get_info(self.device)[0]
        else:
            free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return max(1, min(MAX_SLOTS, free_bytes // 2 // slot_bytes))

    def tokens_with(self, characters: set[str]) -> list[int]:
        """Return the tokens whose text may hold one of `characters`."""
        if not self._token_texts:
            ids = range(min(len(self.tokenizer), self.vocab_size))
            pieces = self.tokenizer.convert_ids_to_tokens(list(ids))
            self._token_texts = [
                # Alone, a token may lose its leading blank, and a part of a character is no character.
                self.decode([index]) + (" " if piece and piece[0] in "▁Ġ" else "")
                for index, piece in zip(ids, pieces, strict=True)
            ]
        wanted = characters | {"\ufffd"}
        return [index for index, text in enumerate(self._token_texts) if not wanted.isdisjoint(text)]


@contextmanager
def _out_of_memory_explained(remedy: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise EngineError(f"the GPU is out of memory; {remedy}") from None
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise EngineError(f"out of memory; {remedy}") from None


def _ids(value: int | list[int] | None) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else list(value)
