"""A running vLLM that is fed from an iterator of jobs and yields outputs as they finish.

vLLM's AsyncLLM runs in a thread of its own, so that the engine never waits for the caller: it keeps
`data_parallel_size` engine processes busy from one queue and ends requests that reach a stop text. The queue
is kept twice as deep as the engine's batch.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import fields
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from erprm_cli import options, shipped
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.in_flight import Wait, in_flight
from erprm_cli.engines.vllm_environment import set_environment
from erprm_cli.engines.vllm_plugin import PARENT
from erprm_cli.errors import EngineError, UsageError, UserError
from erprm_cli.models import loading
from erprm_cli.models.file_checks import check_model

set_environment()  # before vLLM is imported

DEPTH = 2  # requests in flight per place in the batch, so that a free place is filled at once
CPU_BLOCK_SIZE = 32  # tokens per block of the prefix cache: the least that vLLM's CPU kernels support

Tag = TypeVar("Tag")
# The caller's tag, token ids, and vLLM's SamplingParams or PoolingParams; None: there is nothing to do.
Job = tuple[Tag, list[int], Any]


class VllmStream:
    """One model in vLLM, which starts with this object and ends with `close`."""

    def __init__(self, config: EngineConfig, **fixed: Any) -> None:
        """Start the engine; `fixed` are engine arguments that options cannot change.

        Raises UsageError for an --engine-arg that vLLM does not know, UserError for a model that it cannot
        run and EngineError if its processes do not start.
        """
        from vllm import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        path = shipped.resolve(config.model)
        if Path(path).is_dir():  # vLLM downloads the files of a Hub model itself
            check_model(path, allow_pickle=config.allow_pickle)
        os.environ[PARENT] = str(os.getpid())
        known = {field.name for field in fields(AsyncEngineArgs)}
        arguments = engine_args(config, known) | fixed
        with explained_start(config.model):
            # LLM_CLASS gives the large default batches of vLLM's LLM, its class for offline work.
            self.llm = AsyncLLM.from_engine_args(
                AsyncEngineArgs(**arguments), usage_context=UsageContext.LLM_CLASS
            )
        vllm_config = self.llm.vllm_config
        self.max_model_len: int = vllm_config.model_config.max_model_len
        self.depth = DEPTH * vllm_config.scheduler_config.max_num_seqs * config.data_parallel_size
        self._numbers = count()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()

    def run(self, jobs: Iterable[Job[Tag] | Wait]) -> Iterator[tuple[Tag, Any]]:
        """Yield each job's tag and vLLM's last output for it, in any order, as they finish.

        Raises EngineError if the engine dies.
        """

        def start(job: Job[Tag]) -> Future[Any]:
            _, ids, params = job
            return asyncio.run_coroutine_threadsafe(self._last_output(ids, params), self._loop)

        # Closed here and not by the garbage collector: what is in flight ends with this generator.
        with _explain_death(), closing(in_flight(jobs, start, self.depth)) as finished:
            for (tag, _, _), output in finished:
                yield tag, output

    async def _last_output(self, ids: list[int], params: Any) -> Any:
        """Return the last output of one request, or None; vLLM aborts it if this is cancelled."""
        from vllm import PoolingParams
        from vllm.inputs import tokens_input

        if params is None:
            return None
        ask = self.llm.encode if isinstance(params, PoolingParams) else self.llm.generate
        outputs: AsyncIterator[Any] = ask(tokens_input(ids), params, str(next(self._numbers)))
        async for output in outputs:
            last = output
        return last

    def prefix_cache_hit_rate(self) -> float | None:
        """Return the share of prompt tokens that vLLM found in its prefix cache; None if there were none."""
        from vllm.v1.metrics.reader import Counter, get_metrics_snapshot

        totals = {"vllm:prefix_cache_queries": 0, "vllm:prefix_cache_hits": 0}
        for metric in get_metrics_snapshot():
            if isinstance(metric, Counter) and metric.name in totals:
                totals[metric.name] += metric.value
        queries, hits = totals.values()
        return hits / queries if queries else None

    def close(self) -> None:
        """End the engine's processes."""
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        del self.llm  # now, not at interpreter exit, when modules that it needs are gone

    async def _shut_down(self) -> None:
        if self.llm.output_handler:  # it would report the shutdown as a crash
            self.llm.output_handler.cancel()
            await asyncio.gather(self.llm.output_handler, return_exceptions=True)
        self.llm.shutdown()


def engine_args(config: EngineConfig, known: set[str]) -> dict[str, Any]:
    """Return vLLM's engine arguments for `config`; `known` are the names that it accepts.

    Arguments that are None are left out, so vLLM's default applies. `options.key_values` reads --engine-arg.
    """
    device = loading.pick_device()
    dtype = str(loading.pick_dtype(config.dtype, device)).removeprefix("torch.")
    arguments: dict[str, Any] = {
        "model": shipped.resolve(config.model),
        "dtype": dtype,
        "revision": config.revision,
        "tokenizer_revision": config.revision,
        "trust_remote_code": config.trust_remote_code,
        "load_format": None if config.allow_pickle else "safetensors",
        "tensor_parallel_size": config.tensor_parallel_size,
        "data_parallel_size": config.data_parallel_size,
        "max_model_len": config.max_model_len,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "enforce_eager": config.enforce_eager,
        "quantization": config.quantization,
        "max_num_seqs": config.batch_size or None,
        "use_tqdm_on_load": False,
    }
    if device.type == "cpu":
        arguments["block_size"] = CPU_BLOCK_SIZE
        # For a seeded request read in parts, vLLM 0.32 rewinds its generator; a CPU generator cannot do that.
        arguments["enable_chunked_prefill"] = False
        if config.gpu_memory_utilization is None and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            # By default vLLM would take nearly all memory, as if it were a GPU's.
            free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            arguments["kv_cache_memory_bytes"] = free_bytes // 4 // config.data_parallel_size
    for key, value in options.key_values("--engine-arg", config.engine_args or ()).items():
        name = key.replace("-", "_")
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"--engine-arg {key}: not an engine argument of vLLM{hint}")
        arguments[name] = value
    return {name: value for name, value in arguments.items() if value is not None}


@contextmanager
def explained_start(model: str) -> Iterator[None]:
    """Turn what vLLM raises when it cannot run a model, or does not start, into one line."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(f"vLLM cannot run {model!r}: {' '.join(str(error).split())[:400]}") from None
    except RuntimeError as error:
        raise EngineError(
            f"vLLM did not start with {model!r} ({error}); its log above says why, in more detail with "
            "VLLM_LOGGING_LEVEL=INFO. If memory ran out, see --max-model-len, --gpu-memory-utilization and "
            "--tensor-parallel-size"
        ) from None


@contextmanager
def _explain_death() -> Iterator[None]:
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        yield
    except (EngineDeadError, EngineGenerateError):
        raise EngineError(
            "the vLLM engine died; its log above may say why, and a smaller --batch-size may help if memory "
            "ran out"
        ) from None
