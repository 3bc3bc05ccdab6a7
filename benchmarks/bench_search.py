"""How many problems per second `erprm search` finishes, against a plain loop with the same choices.

    python benchmarks/bench_search.py                 # beam search by tiny, 16 candidates, 60 problems
    python benchmarks/bench_search.py --method smc
    python benchmarks/bench_search.py --engine vllm   # policy and PRM in vLLM

The plain loop is that of search-and-learn: one problem at a time, all its prefixes are extended by a step,
then all are scored from their beginning, and the next step waits for the slowest. It uses the same engine,
the same scorer and the same search method as ours, so it asks for the same completions, and both must find
the same solutions. Prefixes are judged by their last score, because rounding decides between equal minima.
The PRM is the policy itself, read with the format er-prm: its scores mean nothing, and take as long as those
of a trained one. On a CPU, seconds are CPU-seconds of this process, which other work disturbs less.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.base import Completion, generate
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine
from erprm_cli.hashing import derive_seed
from erprm_cli.io.reading import read_rows
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.policy.templates import load_template
from erprm_cli.prm.scoring import open_scorer
from erprm_cli.rows.row import Row
from erprm_cli.search.config import SearchConfig
from erprm_cli.search.extender import Extender
from erprm_cli.search.methods import METHODS
from erprm_cli.search.prefix import Found, Prefix
from erprm_cli.search.reader import Reader
from erprm_cli.search.running import Running
from erprm_cli.search.stream import Stream

Solutions = dict[str, list[str]]


def main() -> None:
    """Run both alternately on the same problems and print the ratio."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("-m", "--model", default="tiny", help="policy and PRM")
    options.add_argument("--problems", type=int, default=60)
    options.add_argument("--method", default="beam", choices=METHODS)
    options.add_argument("-n", type=int, default=16)
    options.add_argument("--engine", default="transformers", choices=["transformers", "vllm"])
    options.add_argument("--memory", type=float, help="each engine's share of the GPU's memory (vllm)")
    options.add_argument("--temperature", type=float, default=1.0)
    options.add_argument("--runs", type=int, default=3)
    args = options.parse_args()
    config = EngineConfig(args.model, args.engine, gpu_memory_utilization=args.memory)
    template = load_template("tiny" if args.model == "tiny" else "math-chat")
    sampling = SamplingSettings(args.model, None, args.temperature, 1.0, 512, 0, template.name)
    engine, scorer = open_engine(config), open_scorer(config, prm_format="er-prm")
    extender = Extender(engine, template, sampling, by_steps=args.method != "best-of-n")
    problems = list(read_rows("tiny:test", as_problem, limit=args.problems))
    search = SearchConfig(args.method, n=args.n)

    def begun(problem: Row) -> Running:
        random = np.random.default_rng(derive_seed(0, problem["id"]))
        method = METHODS[search.method](search, lambda prefix: prefix.scores[-1], random)
        return Running(problem, method, extender.prompt(problem))

    def ours() -> Solutions:
        stream = Stream(map(begun, problems), extender, Reader(scorer)).run()
        return {running.problem["id"]: texts(found) for running, found in stream}

    def plain() -> Solutions:
        return {problem["id"]: texts(plain_loop(begun(problem), extender, scorer)) for problem in problems}

    clock = time.process_time if args.engine == "transformers" else time.perf_counter
    ours()  # the first run warms up
    seconds: dict[Callable[[], Solutions], list[float]] = {ours: [], plain: []}
    tokens: dict[Callable[[], Solutions], int] = {}
    for _ in range(args.runs):
        found = []
        for side, times in seconds.items():
            before, begin = scorer.num_tokens, clock()
            found.append(side())
            times.append(clock() - begin)
            tokens[side] = scorer.num_tokens - before
        same = sum(found[0][identity] == found[1][identity] for identity in found[0])
        assert same >= 0.98 * len(problems), f"{same} of {len(problems)} problems have the same solutions"
    print(f"{args.method}, n = {args.n}, {len(problems)} problems, {args.engine}; {same} same solutions")
    for side, times in seconds.items():
        rate = len(problems) / median(times)
        print(f"{side.__name__:6}{rate:8.2f} problems/s, the PRM read {tokens[side]:,} tokens")
    print(f"ratio {median(seconds[plain]) / median(seconds[ours]):8.2f}")
    engine.close()
    scorer.close()


def plain_loop(running: Running, extender: Extender, scorer: Any) -> Found:
    """Return what one search finds, with a barrier at every step and every prefix scored as a whole."""
    running.ask(next(running.search))
    while True:
        requests = (replace(request, keep=False) for request in extender.requests(running))
        for result in generate(extender.engine, requests, extender.params):
            assert isinstance(result, Completion)
            extender.extend(running, result)
        running.round += 1
        try:
            running.ask(running.search.send(list(scored(running, scorer))))
        except StopIteration as stop:
            found: Found = stop.value
            return found


def scored(running: Running, scorer: Any) -> Iterator[Prefix]:
    """Yield the new prefixes of a search with their scores."""
    prefixes = running.answers()
    rows = [{"problem": running.problem["problem"], "steps": list(prefix.steps)} for prefix in prefixes]
    found = scorer.read([(row, scorer.encode(row)) for row in rows])
    for prefix, scores in zip(prefixes, found, strict=True):
        yield replace(prefix, scores=tuple(scores))


def texts(found: Found | None) -> list[str]:
    """Return the solutions of a search."""
    assert found is not None
    return [prefix.text for prefix in found.solutions]


if __name__ == "__main__":
    main()
