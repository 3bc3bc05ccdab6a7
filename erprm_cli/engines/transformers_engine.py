"""Generation with plain transformers models, on a CPU or one GPU, by continuous batching.

B slots decode together. When a completion finishes, the next one takes its slot at once, so no slot waits
for the longest completion of a batch. A prompt is read once for all its completions, and a prompt that
begins another one is read with it. `rolling_cache` explains how slots share one cache; `token_sampling`
explains why a completion does not depend on the others.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from erprm_cli.engines.base import Completion, Request, SamplingParams, Usage
from erprm_cli.engines.causal_model import CausalModel
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.continuous_batching import ContinuousBatch
from erprm_cli.errors import EngineError
from erprm_cli.models.loading import load_causal_lm, load_tokenizer, pick_device, pick_dtype


class TransformersEngine:
    """A causal language model of transformers that completes prompts.

    A prompt that leaves no room for a token within the model's max_position_embeddings does not stop a
    run: its completions are empty (0 tokens, finish_reason "length") and counted in `usage.too_long`.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 0) -> None:
        """Take a model on its device; UsageError if its architecture is not supported.

        `batch_size` bounds the completions in flight; 0: as many as fit into half of the free memory.
        """
        self.causal_model, self.tokenizer = CausalModel(model, tokenizer), tokenizer
        self.batch_size = batch_size
        self.usage = Usage()

    @classmethod
    def load(cls, config: EngineConfig) -> "TransformersEngine":
        """Load the model and tokenizer that `config` names onto the GPU, or the CPU if there is none."""
        device = pick_device()
        options: dict[str, Any] = {
            "revision": config.revision,
            "trust_remote_code": config.trust_remote_code,
        }
        tokenizer = load_tokenizer(config.model, **options)
        with _explain_out_of_memory("the model does not fit; a smaller --dtype may help"):
            model = load_causal_lm(
                config.model,
                dtype=pick_dtype(config.dtype, device),
                allow_pickle=config.allow_pickle,
                **options,
            ).to(device)
        return cls(model, tokenizer, config.batch_size)

    @property
    def model(self) -> Any:
        """The model as transformers knows it."""
        return self.causal_model.model

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        """Yield one completion per index of each request, in any order, as they finish.

        Equal (seed, index) give an equal completion whatever the batch size, the order and the other
        requests, apart from rounding (see `token_sampling`).
        """
        num_slots = self.batch_size or self.causal_model.slots_in_memory(params.max_tokens)
        with _explain_out_of_memory("a smaller --batch-size may help"):
            yield from ContinuousBatch(self.causal_model, requests, params, num_slots, self.usage)

    def close(self) -> None:
        """Free the model."""
        self.causal_model.free()


@contextmanager
def _explain_out_of_memory(remedy: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise EngineError(f"the GPU is out of memory; {remedy}") from None
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise EngineError(f"out of memory; {remedy}") from None
