"""Generation with a vLLM that this process starts, for one GPU or several, and for a CPU.

Each completion is a request of its own. Its seed is derived from (request's seed, index), so that equal
(seed, index) give an equal completion and a resumed run can ask for the missing indices. A vLLM request with
n = K would give child k the seed + k, and is split into K requests anyway. The requests of one prompt are
adjacent, so the automatic prefix cache reads their prompt once. Prefixes of one solution are token ids cut
from one tokenisation, so they share all full blocks.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from erprm_cli.engines.base import LATER, Completion, Request, SamplingParams, Usage, encode
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.in_flight import Wait
from erprm_cli.engines.vllm_stream import Job, VllmStream
from erprm_cli.hashing import derive_seed
from erprm_cli.models import loading
from erprm_cli.models.tokenizer_file import replaced_folder

CompletionKey = tuple[Hashable, int]


class VllmEngine:
    """A causal language model in vLLM. A prompt that is too long is treated as in TransformersEngine."""

    def __init__(self, config: EngineConfig) -> None:
        """Start vLLM; errors as of VllmStream."""
        self.usage = Usage()
        # Before the engine, which starts slowly: most wrong names are found here.
        self.tokenizer = loading.load_tokenizer(
            config.model, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
        with replaced_folder(self.tokenizer) as folder:  # vLLM would load the one that was replaced
            self.stream = VllmStream(config, **({"tokenizer": folder} if folder else {}))

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        """Yield one completion per index of each request, in any order, as they finish.

        Equal (seed, index) give an equal completion, apart from rounding: the last bits of the logits depend
        on the other requests in the batch.
        """
        for (key, index), output in self.stream.run(self._jobs(requests, params)):
            if output is None:  # the context has no room
                yield Completion(key, index, "", 0, "length", token_ids=())
                continue
            (generated,) = output.outputs
            ids = tuple(generated.token_ids)
            self.usage.generated_tokens += len(ids)
            yield Completion(key, index, generated.text, len(ids), generated.finish_reason, token_ids=ids)
        self.usage.prefix_cache_hit_rate = self.stream.prefix_cache_hit_rate()

    def close(self) -> None:
        """End vLLM's processes."""
        self.stream.close()

    def _jobs(
        self, requests: Iterable[Request], params: SamplingParams
    ) -> Iterator[Job[CompletionKey] | Wait]:
        """Yield the jobs for vLLM, empty ones for completions for which the context has no room."""
        for request in requests:
            if request is LATER:
                yield Wait.FOR_RESULT
                continue
            ids = encode(self.tokenizer, request.prompt)
            limit = min(request.limit(params), self.stream.max_model_len - len(ids))
            if limit < 1:
                self.usage.too_long += len(request.indices)
                yield from (((request.key, index), ids, None) for index in request.indices)
                continue
            self.usage.prompt_tokens += len(ids) if request.indices else 0
            for index in request.indices:
                seed = derive_seed(request.seed, index)
                yield (request.key, index), ids, _vllm_params(params, limit, seed, request.greedy)


def _vllm_params(params: SamplingParams, limit: int, seed: int, greedy: bool) -> Any:
    """Return vLLM's own sampling parameters; it stops at the model's end tokens by default."""
    from vllm import SamplingParams as VllmParams
    from vllm.sampling_params import RequestOutputKind

    temperature = 0.0 if greedy else params.temperature
    return VllmParams(
        temperature=temperature,
        top_p=params.top_p,
        max_tokens=limit,
        stop=list(params.stop),
        stop_token_ids=list(params.stop_token_ids),
        seed=None if temperature == 0 else seed,
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
