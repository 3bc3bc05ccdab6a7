"""A running vLLM, fed from an iterator: token ids in as there is room, outputs out as they finish.

vLLM's AsyncLLM runs in a thread of its own, so that the engine never waits for the rows: it keeps
`data_parallel_size` engine processes busy from one queue and ends requests that have come to a stop text,
whatever the caller does meanwhile. The queue is kept twice as deep as the engine's batch.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from itertools import count
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import msgspec

from erprm_cli import shipped
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.vllm_plugin import PARENT
from erprm_cli.errors import EngineError, UsageError, UserError
from erprm_cli.models import loading

# Said before vLLM is imported: its log belongs on stderr, and nobody is told of what runs here.
os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

DEPTH = 2  # requests under way for each place in the batch, so that a freed place is taken at once
CPU_BLOCK_SIZE = 32  # tokens that share a prefix together: the fewest that vLLM's CPU kernels know

Tag = TypeVar("Tag")
Job = tuple[Tag, list[int], Any]  # what it is called, token ids, vLLM's SamplingParams or PoolingParams


class VllmStream:
    """One model in vLLM: it starts with the object and ends with `close`."""

    def __init__(self, config: EngineConfig, **fixed: Any) -> None:
        """Start the engine; `fixed` are engine arguments that no flag may change.

        Raises UsageError for an --engine-arg that vLLM does not know, UserError for a model that it cannot
        run and EngineError if its processes do not start.
        """
        from vllm import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        os.environ[PARENT] = str(os.getpid())
        known = {field.name for field in fields(AsyncEngineArgs)}
        given = engine_args(config, known) | fixed
        with _start_explained(config.model):
            # As LLM, vLLM's class for work like this, would be: large batches.
            self.llm = AsyncLLM.from_engine_args(
                AsyncEngineArgs(**given), usage_context=UsageContext.LLM_CLASS
            )
        vllm_config = self.llm.vllm_config
        self.max_model_len: int = vllm_config.model_config.max_model_len
        self.depth = DEPTH * vllm_config.scheduler_config.max_num_seqs * config.data_parallel_size
        self._numbers = count()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()

    def run(self, jobs: Iterable[Job[Tag]]) -> Iterator[tuple[Tag, Any]]:
        """Yield each job's tag and vLLM's last output for it, in any order, as they finish.

        Raises EngineError if the engine dies.
        """
        finished: SimpleQueue[Future[Any]] = SimpleQueue()
        under_way: dict[Future[Any], Tag] = {}
        stream, exhausted = iter(jobs), False
        try:
            while True:
                while not exhausted and len(under_way) < self.depth:
                    job = next(stream, None)
                    if job is None:
                        exhausted = True
                        break
                    tag, ids, params = job
                    future = asyncio.run_coroutine_threadsafe(self._last(ids, params), self._loop)
                    under_way[future] = tag
                    future.add_done_callback(finished.put)
                    if not finished.empty():  # a slow input holds nothing back that is done
                        break
                if not under_way:
                    return
                future = finished.get()
                with _death_explained():
                    output = future.result()
                yield under_way.pop(future), output
        finally:
            for future in under_way:
                future.cancel()

    async def _last(self, ids: list[int], params: Any) -> Any:
        """Return the last output of one request; vLLM aborts it if this is cancelled."""
        from vllm import PoolingParams
        from vllm.inputs import tokens_input

        ask = self.llm.encode if isinstance(params, PoolingParams) else self.llm.generate
        outputs: AsyncIterator[Any] = ask(tokens_input(ids), params, str(next(self._numbers)))
        async for output in outputs:
            last = output
        return last

    def prefix_cache_hit_rate(self) -> float | None:
        """Return the share of prompt tokens found in the prefix cache, by vLLM's own metrics."""
        from vllm.v1.metrics.reader import Counter, get_metrics_snapshot

        totals = {"vllm:prefix_cache_queries": 0, "vllm:prefix_cache_hits": 0}
        for metric in get_metrics_snapshot():
            if isinstance(metric, Counter) and metric.name in totals:
                totals[metric.name] += metric.value
        asked, hit = totals.values()
        return hit / asked if asked else None

    def close(self) -> None:
        """End the engine's processes."""
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        del self.llm  # here, not when Python ends and half of what it needs is gone

    async def _shut_down(self) -> None:
        if self.llm.output_handler:  # it would take the end of the processes for their death
            self.llm.output_handler.cancel()
            await asyncio.gather(self.llm.output_handler, return_exceptions=True)
        self.llm.shutdown()


def engine_args(config: EngineConfig, known: set[str]) -> dict[str, Any]:
    """Return vLLM's engine arguments for `config`; `known` are the names that it takes.

    What is null keeps vLLM's own default. A value of --engine-arg is JSON if it can be read so, else text.
    """
    device = loading.pick_device()
    dtype = str(loading.pick_dtype(config.dtype, device)).removeprefix("torch.")
    found: dict[str, Any] = {
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
        found["block_size"] = CPU_BLOCK_SIZE
        # Where a seeded request is read in parts, vLLM 0.32 rewinds its generator, which a CPU's cannot do.
        found["enable_chunked_prefill"] = False
        if config.gpu_memory_utilization is None and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            # vLLM would take nearly all memory, as if it were a GPU's.
            free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            found["kv_cache_memory_bytes"] = free_bytes // 4 // config.data_parallel_size
    for text in config.engine_args or ():
        key, equals, value = text.partition("=")
        name = key.replace("-", "_")
        if not equals or name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"--engine-arg takes KEY=VALUE with a KEY of vLLM's, not {text!r}{hint}")
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            found[name] = {"True": True, "False": False, "None": None}.get(value, value)
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def _start_explained(model: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(f"vLLM cannot run {model!r}: {' '.join(str(error).split())[:400]}") from None
    except RuntimeError as error:
        raise EngineError(
            f"vLLM did not start with {model!r} ({error}); its own lines above say why, and more with "
            "VLLM_LOGGING_LEVEL=INFO. If memory ran out, see --max-model-len, --gpu-memory-utilization and "
            "--tensor-parallel-size"
        ) from None


@contextmanager
def _death_explained() -> Iterator[None]:
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        yield
    except (EngineDeadError, EngineGenerateError):
        raise EngineError(
            "vLLM's engine died; its own lines above may say why. The rows so far are kept: with -o, the "
            "same command continues. If memory ran out, a smaller --batch-size may help"
        ) from None
