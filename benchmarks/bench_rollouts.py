"""Rollouts: tokens read against the least possible, and how well an engine is fed.

    python benchmarks/bench_rollouts.py [--problems 100] [-n 15] [-k 16]

tiny samples solutions; their real rollout requests then go to an engine that counts instead of computing.
It has --slots sequences in flight, one token each a step, and vLLM's prefix cache (blocks of 16 tokens, of
which full ones hit; the last token is always read). The length of a completion is drawn: exponential with a
mean of --mean-length, and 3 % that ramble to 1,024 tokens. Beside it, what the paper's released code does
with the same solutions: a request for each step of each solution, the last one included, in calls of 3,000
that start when the one before has drained and write their rows at their end.
"""

import argparse
import heapq
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from erprm_cli.answers.grader import Grader
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.base import Completion, Request, SamplingParams, Usage
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine
from erprm_cli.hashing import derive_seed
from erprm_cli.io.reading import read_rows
from erprm_cli.policy.prompts import encode_prompt, render_prompt
from erprm_cli.policy.rollouts import Roller
from erprm_cli.policy.sampling import SamplingSettings, sample_solutions
from erprm_cli.policy.templates import PolicyTemplate, load_template
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import prefixes

BLOCK = 16
CALL = 3000
MAX_TOKENS = 1024
RAMBLING = 0.03
GOAL_OVER, GOAL_FULL, GOAL_ROW_S = 8.5, 0.97, 1.0


class PrefixCache:
    """Which blocks of tokens have been read, as vLLM remembers them; without a limit."""

    def __init__(self) -> None:
        self.blocks: set[tuple[int, ...]] = set()

    def read(self, ids: tuple[int, ...]) -> int:
        """Return how many tokens of `ids` must be read, and remember them."""
        hits = 0
        while (hits + 1) * BLOCK < len(ids) and ids[: (hits + 1) * BLOCK] in self.blocks:
            hits += 1
        for end in range((hits + 1) * BLOCK, len(ids) + 1, BLOCK):
            self.blocks.add(ids[:end])
        return len(ids) - hits * BLOCK


class CountingEngine:
    """Decodes nothing, step by step: draws requests as it has room, and counts."""

    def __init__(self, tokenizer: Any, slots: int, mean_length: float) -> None:
        self.tokenizer, self.slots, self.mean_length = tokenizer, slots, mean_length
        self.usage = Usage()
        self.cache = PrefixCache()
        self.asked: list[Request] = []
        self.prefill = self.step = 0
        self.steps_before_tail = self.full_steps = 0  # the tail begins when the last sequence has entered
        self.calls_follow = False  # so a drain is no tail
        self.finished_s = 0.0  # when the last completion was handed on

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        """Yield completions at the steps at which they end."""
        waiting = self._sequences(requests)
        flying: list[tuple[int, int, Completion]] = []  # ends at step, tie-breaker, what
        entered, more = 0, True
        while True:
            while more and len(flying) < self.slots:
                completion = next(waiting, None)
                if completion is None:
                    more = False
                else:
                    entered += 1
                    heapq.heappush(flying, (self.step + completion.num_tokens, entered, completion))
            if not flying:
                return
            full = len(flying) == self.slots
            end, _, completion = heapq.heappop(flying)
            if more or self.calls_follow:
                self.steps_before_tail += end - self.step
                self.full_steps += (end - self.step) * full
            self.step = end
            self.finished_s = time.perf_counter()
            yield completion

    def close(self) -> None:
        """Nothing is held."""

    def _sequences(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            assert isinstance(request.prompt, tuple)
            self.asked.append(request)
            self.prefill += self.cache.read(request.prompt)
            for index in request.indices:
                yield self._completion(request, index)

    def _completion(self, request: Request, index: int) -> Completion:
        draw = random.Random(f"{request.seed} {index}")
        if draw.random() < RAMBLING:
            return Completion(request.key, index, "and so on", MAX_TOKENS, "length")
        length = min(MAX_TOKENS, 1 + int(draw.expovariate(1 / self.mean_length)))
        return Completion(request.key, index, f"The answer is: {draw.randrange(9)}", length, "stop")


@dataclass
class Run:
    """One way of rolling out, and what came of it."""

    name: str
    engine: CountingEngine
    first_row: int = 0  # step
    delay_s: float = 0.0  # from the completion that the first row waited for to the row

    def line(self, trie: int) -> str:
        """Return its row of the table."""
        engine = self.engine
        requests = len(engine.asked)
        return (
            f"{self.name:26} {requests:9,} {engine.prefill:9,} {(engine.prefill - trie) / requests:9.2f} "
            f"{engine.full_steps / engine.steps_before_tail:10.2%} {engine.step:9,} {self.first_row:9,}"
        )


def with_erprm(
    run: Run, rows: list[Row], template: PolicyTemplate, settings: SamplingSettings, k: int
) -> Run:
    with Grader() as grader:
        for count, _ in enumerate(Roller(run.engine, template, settings, k, grader).roll(rows)):
            if count == 0:
                run.first_row = run.engine.step
                run.delay_s = time.perf_counter() - run.engine.finished_s
    return run


def sampled(
    engine: CountingEngine, problems: list[Row], template: PolicyTemplate, settings: SamplingSettings, n: int
) -> Run:
    """Sample until the first row."""
    run = Run("erprm sample", engine)
    with Grader() as grader:
        next(iter(sample_solutions(problems, engine, template, settings, n, grader)))
        run.delay_s = time.perf_counter() - engine.finished_s
    return run


def as_released(
    run: Run, rows: list[Row], template: PolicyTemplate, settings: SamplingSettings, k: int
) -> Run:
    """Every prefix of every solution, the whole solution too, in calls of 3,000."""
    engine = run.engine
    requests = []
    for row in rows:
        prompt = render_prompt(template, engine.tokenizer, row["problem"])
        for text in [*prefixes(row["solution"], row["steps"]), row["solution"]]:
            ids = encode_prompt(template, engine.tokenizer, prompt + text)
            key = (row["id"], row["sample"], text)
            requests.append(Request(key, ids, tuple(range(k)), derive_seed(*key)))
    for begin in range(0, len(requests), CALL):
        engine.calls_follow = begin + CALL < len(requests)
        for _ in engine.generate(requests[begin : begin + CALL], settings.params(template, engine.tokenizer)):
            pass
        run.first_row = run.first_row or engine.step
    return run


def least_tokens(rows: list[Row], tokenizer: Any, template: PolicyTemplate) -> int:
    """Return the distinct prefix tokens: the nodes of a trie of all prefixes.

    Each solution is tokenised once, up to its last step; the requests have no say in it.
    """
    nodes: set[tuple[int, ...]] = set()
    for row in rows:
        texts = prefixes(row["solution"], row["steps"])
        if texts:
            text = render_prompt(template, tokenizer, row["problem"]) + texts[-1]
            ids = encode_prompt(template, tokenizer, text)
            assert isinstance(ids, tuple)
            nodes.update(ids[:end] for end in range(1, len(ids) + 1))
    return len(nodes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("-n", type=int, default=15)
    parser.add_argument("-k", type=int, default=16)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--mean-length", type=float, default=120.0)
    parser.add_argument("--temperature", type=float, default=0.7)
    options = parser.parse_args()
    template = load_template("tiny")
    settings = SamplingSettings("tiny", None, options.temperature, 1.0, 160, 0, template.name)
    problems = list(read_rows("tiny:train", as_problem, limit=options.problems))
    with closing(open_engine(EngineConfig())) as tiny, Grader() as grader:
        tokenizer = tiny.tokenizer
        rows = list(sample_solutions(problems, tiny, template, settings, options.n, grader))
    rows.sort(key=lambda row: (row["id"], row["sample"]))
    settings = replace(settings, temperature=1.0, max_tokens=MAX_TOKENS)

    def engine() -> CountingEngine:
        return CountingEngine(tokenizer, options.slots, options.mean_length)

    begin = time.perf_counter()
    run = with_erprm(Run("erprm rollout", engine()), rows, template, settings, options.k)
    seconds = time.perf_counter() - begin
    old = as_released(Run("calls of 3,000, each step", engine()), rows, template, settings, options.k)
    sample = sampled(engine(), problems, template, settings, options.n)
    trie = least_tokens(rows, tokenizer, template)
    # By what the model reads, not by the keys that the requests carry.
    asked = [tokenizer.decode(request.prompt, skip_special_tokens=True) for request in run.engine.asked]
    wanted: set[str] = set()
    whole: set[str] = set()
    for row in rows:
        prompt = render_prompt(template, tokenizer, row["problem"])
        wanted.update(prompt + text for text in prefixes(row["solution"], row["steps"]))
        whole.add(prompt + row["solution"])
    completions = len(asked) * options.k
    print(
        f"{len(rows):,} solutions by tiny, k = {options.k}, {options.slots} slots; "
        f"distinct prefix tokens: {trie:,}\n"
    )
    head = ("", "requests", "prefill", "over/req", "full steps", "steps", "first row")
    print(f"{head[0]:26} {head[1]:>9} {head[2]:>9} {head[3]:>9} {head[4]:>10} {head[5]:>9} {head[6]:>9}")
    print(run.line(trie))
    print(old.line(trie))
    print()
    over = (run.engine.prefill - trie) / len(asked)
    share = run.engine.full_steps / run.engine.steps_before_tail
    for goal, value, held in (
        (f"prefill beyond the trie, tokens a request, <= {GOAL_OVER}", f"{over:.2f}", over <= GOAL_OVER),
        ("rollouts of finished solutions, 0", f"{len(whole & set(asked))}", not whole & set(asked)),
        (
            "requests for each distinct prefix, 1",
            f"{len(asked) / len(wanted):.3f}",
            len(asked) == len(wanted) and set(asked) == wanted,
        ),
        (f"steps with a full batch until the tail, >= {GOAL_FULL:.0%}", f"{share:.2%}", share >= GOAL_FULL),
        (
            f"sample: first row after the first finish, s, < {GOAL_ROW_S:g}",
            f"{sample.delay_s:.4f}",
            sample.delay_s < GOAL_ROW_S,
        ),
        (
            f"rollout: first row after its last completion, s, < {GOAL_ROW_S:g}",
            f"{run.delay_s:.4f}",
            run.delay_s < GOAL_ROW_S,
        ),
    ):
        print(f"{goal:62} {value:>9}  {'held' if held else 'MISSED'}")
    print(f"{'prompts, grading and rows, microseconds a completion':62} {seconds / completions * 1e6:9.1f}")


if __name__ == "__main__":
    main()
