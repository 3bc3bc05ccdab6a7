"""Rollouts by each engine and as in the released code: useful tokens per second, and cached tokens.

    python benchmarks/bench_engines.py [-m tiny] [-t tiny] [--problems 12] [-k 8]

All of them complete the same prefixes, those that `erprm rollout` requests, K times each in one process; the
best of --runs counts. The released code makes one `generate` call per prefix with K completions (only 12
prefixes are timed, because it is slow). The last line is the share of prompt tokens that vLLM found in its
prefix cache, which was empty at the start: in the order of the requests, and with all completions shuffled.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from typing import Any

import torch

from erprm_cli.answers.grader import Grader
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.base import Completion, Request, SamplingParams, Usage
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.transformers_engine import TransformersEngine
from erprm_cli.engines.vllm_engine import VllmEngine
from erprm_cli.errors import EngineError
from erprm_cli.io.reading import read_rows
from erprm_cli.models.loading import pick_device
from erprm_cli.options import Dtype
from erprm_cli.policy.rollouts import Roller
from erprm_cli.policy.sampling import SamplingSettings, sample_solutions
from erprm_cli.policy.templates import load_template


class Recorder:
    """An engine that generates nothing and records what a run requests."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.usage = tokenizer, Usage()
        self.requests: list[Request] = []

    def generate(self, requests: Iterable[Request], _: SamplingParams) -> Iterator[Completion]:
        self.requests = list(requests)
        return iter(())

    def close(self) -> None:
        pass


def rate(work: Callable[[], int], runs: int) -> float:
    """Return the tokens per second of the best of `runs`."""
    best = 0.0
    for _ in range(runs):
        begin = time.perf_counter()
        best = max(best, work() / (time.perf_counter() - begin))
    return best


def generated(engine: Any, requests: list[Request], params: SamplingParams) -> int:
    return sum(completion.num_tokens for completion in engine.generate(iter(requests), params))


def one_by_one(engine: TransformersEngine, requests: list[Request], params: SamplingParams) -> int:
    """Complete each prefix by a separate call of transformers' generate; return the useful tokens."""
    tokens = 0
    ends = torch.tensor(sorted(engine.causal_model.eos_ids), device=engine.model.device)
    for request in requests:
        ids = torch.tensor([request.prompt], device=engine.model.device)
        whole = engine.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=params.temperature,
            top_k=0,
            num_return_sequences=len(request.indices),
            max_new_tokens=min(params.max_tokens, (engine.causal_model.max_length or 1 << 30) - ids.shape[1]),
            pad_token_id=int(ends[0]),
        )
        ended = torch.isin(whole[:, ids.shape[1] :], ends)
        tokens += int((ended.cumsum(1) - ended.long() == 0).sum())  # up to and with the first end
    return tokens


def hit_rate(engine: VllmEngine, requests: list[Request], params: SamplingParams) -> float:
    """Return the share of prompt tokens found in the prefix cache by a run that starts with an empty one."""
    from vllm.v1.metrics.reader import Counter, get_metrics_snapshot

    def totals() -> list[int]:
        values = {"vllm:prefix_cache_hits": 0, "vllm:prefix_cache_queries": 0}
        for metric in get_metrics_snapshot():
            if isinstance(metric, Counter) and metric.name in values:
                values[metric.name] += metric.value
        return list(values.values())

    reset = engine.stream.llm.reset_prefix_cache()
    asyncio.run_coroutine_threadsafe(reset, engine.stream._loop).result()
    before = totals()
    generated(engine, requests, params)
    hits, queries = (after - early for after, early in zip(totals(), before, strict=True))
    return hits / queries


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("-t", "--template", default="tiny")
    parser.add_argument("--input", default="tiny:test")
    parser.add_argument("--problems", type=int, default=12)
    parser.add_argument("-k", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--dtype", type=Dtype, default=Dtype.auto)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument(
        "--gpu-memory-utilization", type=float, default=0.5, help="share for vLLM; transformers uses the rest"
    )
    options = parser.parse_args()
    template, params = load_template(options.template), SamplingParams(1.0, 1.0, options.max_tokens)
    on_cpu = pick_device().type == "cpu"
    config = EngineConfig(
        options.model,
        dtype=options.dtype,
        enforce_eager=on_cpu,
        gpu_memory_utilization=None if on_cpu else options.gpu_memory_utilization,
    )
    with closing(VllmEngine(config)) as vllm, Grader() as grader:
        settings = SamplingSettings(options.model, None, 0.7, 1.0, options.max_tokens, 0, template.name)
        problems = read_rows(options.input, as_problem, limit=options.problems)
        rows = list(sample_solutions(problems, vllm, template, settings, 2, grader))
        recorder = Recorder(vllm.tokenizer)
        with suppress(EngineError):  # about completions that the recorder does not produce
            list(Roller(recorder, template, settings, options.k, grader).roll(rows))
        requests = recorder.requests
        separate = [
            Request((request.key, index), request.prompt, (index,), request.seed)
            for request in requests
            for index in request.indices
        ]
        random.Random(0).shuffle(separate)
        ordered, shuffled = (hit_rate(vllm, asked, params) for asked in (requests, separate))
        transformers = TransformersEngine.load(config)
        few = requests[:: max(1, len(requests) // 12)]
        rates = {
            "vllm": rate(lambda: generated(vllm, requests, params), options.runs),
            "transformers engine": rate(lambda: generated(transformers, requests, params), options.runs),
            "one generate per prefix": rate(lambda: one_by_one(transformers, few, params), options.runs),
        }
    device = "CPU" if on_cpu else torch.cuda.get_device_name()
    print(f"{options.model} on {device}: {len(requests)} prefixes, K = {options.k}, T = 1")
    print(f"{'':26} {'useful tokens/s':>15} {'ratio':>7}")
    for name, value in rates.items():
        print(f"{name:26} {value:15,.0f} {value / rates['one generate per prefix']:7.1f}")
    print(f"prefix cache: {ordered:.1%} of prompt tokens in the order asked, {shuffled:.1%} shuffled")


if __name__ == "__main__":
    main()
