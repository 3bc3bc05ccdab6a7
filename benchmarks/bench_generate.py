"""Useful tokens per second of the default engine, against plain `generate`, sampling and rolling out.

    python benchmarks/bench_generate.py [--model tiny] [--problems 16]

All of them complete the same prompts with the same model in one process, in turn, and the best of --runs
counts: the engine; `generate` in batches of prompts sorted by length, 512 completions per batch; `generate`
for one request at a time with n completions. Useful tokens are those up to and including a completion's end.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch

from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.base import Completion, Request, SamplingParams
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine
from erprm_cli.io.reading import read_rows
from erprm_cli.models.loading import load_causal_lm
from erprm_cli.policy.templates import load_template
from erprm_cli.rows.steps import prefixes, split_steps

BATCH = 512
MAX_TOKENS = 160


def with_engine(engine: Any, prompts: list[str], n: int, temperature: float) -> int:
    """Return the useful tokens of n completions of each prompt, by the engine."""
    requests = (Request(index, prompt, tuple(range(n)), index) for index, prompt in enumerate(prompts))
    params = SamplingParams(temperature, 1.0, MAX_TOKENS)
    return sum(completion.num_tokens for completion in engine.generate(requests, params))


def with_generate(
    model: Any, tokenizer: Any, prompts: list[str], n: int, temperature: float, batch: int
) -> int:
    """Return the same for transformers' generate, with `batch` prompts at a time, sorted by length."""
    useful = 0
    tokenizer.padding_side = "left"
    for group in batched(sorted(prompts, key=len), batch):
        inputs = tokenizer(group, return_tensors="pt", padding=True)
        whole = model.generate(
            **inputs,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            num_return_sequences=n,
            max_new_tokens=MAX_TOKENS,
        )
        new = whole[:, inputs.input_ids.shape[1] :]
        useful += int((new != tokenizer.pad_token_id).sum())
    return useful


def batched(items: list[str], size: int) -> Iterator[list[str]]:
    stream = iter(items)
    while group := list(islice(stream, size)):
        yield group


def best_rate(run: Callable[[], int], best: float) -> float:
    begin = time.perf_counter()
    return max(best, run() / (time.perf_counter() - begin))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--template", default="tiny")
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    template = load_template(options.template)
    problems = list(read_rows("tiny:test", as_problem, limit=options.problems))
    engine = open_engine(EngineConfig(options.model))
    plain = load_causal_lm(options.model, dtype=torch.float32).eval(), engine.tokenizer
    questions = [template.fill(problem["problem"]) for problem in problems]
    greedy = {
        completion.key: completion.text
        for completion in engine.generate(
            (Request(index, text, (0,), 0) for index, text in enumerate(questions)),
            SamplingParams(0.0, 1.0, MAX_TOKENS),
        )
        if isinstance(completion, Completion)
    }
    rolled = [
        questions[index] + prefix
        for index in range(len(questions))
        for prefix in prefixes(greedy[index], split_steps(greedy[index], template.step_break))
    ]
    print(f"{options.model}, {torch.get_num_threads()} threads, {torch.get_default_dtype()}")
    print(f"{'useful tokens/s':34} {'engine':>9} {'batches':>9} {'one by one':>10} {'ratios':>13}")
    for name, prompts, n, temperature in (
        ("sampling, n = 15, T = 0.7", questions, 15, 0.7),
        ("rolling out, n = 16, T = 1", rolled, 16, 1.0),
    ):
        few = prompts[:: max(1, len(prompts) // 12)]  # one by one is slow
        engine_rate = batch_rate = single_rate = 0.0
        for _ in range(options.runs):
            engine_rate = best_rate(
                lambda: with_engine(engine, prompts, n, temperature),  # noqa: B023
                engine_rate,
            )
            batch_rate = best_rate(
                lambda: with_generate(*plain, prompts, n, temperature, BATCH // n),  # noqa: B023
                batch_rate,
            )
            single_rate = best_rate(
                lambda: with_generate(*plain, few, n, temperature, 1),  # noqa: B023
                single_rate,
            )
        ratios = f"{engine_rate / batch_rate:.1f}, {engine_rate / single_rate:.1f}"
        print(f"{name:34} {engine_rate:9,.0f} {batch_rate:9,.0f} {single_rate:10,.0f} {ratios:>13}")


if __name__ == "__main__":
    main()
