"""vLLM in a GRPO process without a GPU, for tests: TRL's way to replace its weights works on a GPU only.

TRL writes into vLLM's parameters, but on a CPU vLLM has packed them for its kernels and let them go. vLLM
itself can load and pack weights again, if its graph was not compiled with the old ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

from torch import Tensor
from trl.generation import vllm_generation

CACHE_BYTES = 2**30


@contextmanager
def started_without_graph() -> Iterator[None]:
    """Have TRL start vLLM in float32, like the policy, with a small cache and without a compiled graph."""
    module: Any = vllm_generation
    original = module.LLM
    module.LLM = partial(original, dtype="float32", enforce_eager=True, kv_cache_memory_bytes=CACHE_BYTES)
    try:
        yield
    finally:
        module.LLM = original


def reload_weights(generation: Any) -> None:
    """Give vLLM the weights of the policy; `generation` is TRL's VLLMGeneration."""

    def weights() -> Iterator[tuple[str, Tensor]]:
        for name, parameter in generation._iter_named_params():
            yield name, parameter.clone()  # adapters are merged only while this runs

    runner = generation.llm.llm_engine.model_executor.driver_worker.model_runner
    runner.reload_weights(weights_iterator=weights())
    generation.llm.reset_prefix_cache()


def replace_sync(generation: Any) -> None:
    """Have `generation` load weights by `reload_weights`."""
    generation.sync_weights = MethodType(reload_weights, generation)
