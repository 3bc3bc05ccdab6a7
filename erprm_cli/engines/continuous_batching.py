"""Continuous batching for transformers: a finished completion's place is taken by the next request."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from erprm_cli.engines.base import Completion, Request, SamplingParams, encode
from erprm_cli.engines.rolling_cache import KeysValues, RollingCache, move_columns
from erprm_cli.engines.token_sampling import draw
from erprm_cli.errors import EngineError
from erprm_cli.hashing import derive_seed

if TYPE_CHECKING:
    from erprm_cli.engines.transformers_engine import TransformersEngine

MAX_SLOTS = 512
PREFILL_TOKENS = {"cpu": 2048, "cuda": 16384}  # in one forward pass, padding included
STEPS_PER_CHECK = {"cpu": 1, "cuda": 4}  # looking for finished slots makes the host wait for a GPU
REFILL_SHARE = 32  # refill when one in so many slots is free
CONTEXT_TOKENS = 8  # of the prompt, decoded with a completion so that its first token keeps its blank
LEAST_SPARE = 64  # columns
NEVER = 1 << 62
FREE_STATE = (NEVER, 0, NEVER, 0)  # as Slot.state of a slot that holds nothing


@dataclass(slots=True)
class Job:
    """A request under way: its prompt, read, and the indices that wait for a slot."""

    request: Request
    ids: list[int]
    waiting: deque[int]
    context: list[int]  # the prompt's last tokens
    context_text: str
    limit: int  # tokens per completion
    past: list[KeysValues]  # per layer [H, P-1, D]: all but the last token, which the first step feeds


@dataclass(slots=True)
class Slot:
    """A completion in flight. Token j of it was drawn at time `entered` + j."""

    job: Job
    index: int
    entered: int
    checked: int = 0  # tokens in which no end was found

    @property
    def start(self) -> int:
        """Time of the prompt's first token."""
        return self.entered - len(self.job.ids) + 1

    def state(self) -> tuple[int, int, int, int]:
        """Return start, entered, the time at which the last token is drawn, and the seed."""
        seed = derive_seed(self.job.request.seed, self.index)
        return self.start, self.entered, self.entered + self.job.limit - 1, seed


class Run:
    """One call of generate. Time counts decode steps; `cache.base` is the time of the first column."""

    def __init__(
        self, engine: "TransformersEngine", requests: Iterable[Request], params: SamplingParams
    ) -> None:
        self.engine, self.params, self.device = engine, params, engine.device
        self.requests = iter(requests)
        self.exhausted = False
        self.queue: deque[Job] = deque()
        self.finished: list[Completion] = []
        self.slots: list[Slot | None] = []
        self.num_slots = engine.num_slots(params)
        self.steps_per_check = STEPS_PER_CHECK[self.device.type]
        stop_ends = engine.tokens_with({stop[-1] for stop in params.stop}) if params.stop else ()
        self.stop_ends = frozenset(stop_ends)  # tokens that may complete a stop text
        # The most tokens that a stop text may span.
        self.stop_tail = max((len(stop.encode()) for stop in params.stop), default=0) + 4
        self.may_end_V = torch.zeros(engine.vocab_size, dtype=torch.bool, device=self.device)
        self.may_end_V[[*engine.eos_ids, *stop_ends]] = True
        self.is_broken = torch.zeros((), dtype=torch.bool, device=self.device)

    def __iter__(self) -> Iterator[Completion]:
        while self.num_waiting < self.num_slots and not self.exhausted:
            self._draw_jobs(self.num_slots)
            yield from self._take_finished()
        self._allocate(min(self.num_slots, self.num_waiting))
        self._refill()
        while any(self.slots) or not self.exhausted:
            if any(self.slots):
                for _ in range(self.steps_per_check):
                    self._step()
                self._harvest()
            self._refill()
            yield from self._take_finished()

    @property
    def num_waiting(self) -> int:
        """Return how many completions wait for a slot."""
        return sum(len(job.waiting) for job in self.queue)

    def _take_finished(self) -> list[Completion]:
        finished, self.finished = self.finished, []
        return finished

    # Requests

    def _draw_jobs(self, wanted: int) -> None:
        """Draw requests for `wanted` completions, or to the end of them, and read their prompts.

        Prompts that are too long finish at once; there may be no end of them, so they count as well.
        """
        engine, jobs = self.engine, list[Job]()
        while wanted > len(self.finished) and not self.exhausted:
            request = next(self.requests, None)
            if request is None:
                self.exhausted = True
                break
            ids = encode(engine.tokenizer, request.prompt)
            limit = min(self.params.max_tokens, (engine.max_length or NEVER) - len(ids))
            if limit < 1:
                engine.usage.too_long += len(request.indices)
                self.finished += [
                    Completion(request.key, index, "", 0, "length") for index in request.indices
                ]
            elif request.indices:
                engine.usage.prompt_tokens += len(ids)
                context = ids[-CONTEXT_TOKENS:]
                text = engine.decode(context)
                jobs.append(Job(request, ids, deque(request.indices), context, text, limit, []))
                wanted -= len(request.indices)
        self._prefill(jobs)
        self.queue.extend(jobs)

    def _prefill(self, jobs: Iterable[Job]) -> None:
        """Give each job its keys and values; a prompt that another one continues takes them from it."""
        groups: list[list[Job]] = []  # the first job of a group begins with the prompts of all the others
        for job in sorted(jobs, key=lambda job: job.ids, reverse=True):
            if groups and groups[-1][0].ids[: len(job.ids)] == job.ids:
                groups[-1].append(job)
            else:
                groups.append([job])
        groups.sort(key=lambda group: len(group[0].ids))
        while groups:
            size = max(1, PREFILL_TOKENS[self.device.type] // len(groups[-1][0].ids))
            batch, groups = groups[-size:], groups[:-size]
            rows = [group[0].ids[:-1] for group in batch]
            layers = self.engine.prefill(rows) if any(rows) else []
            for row, group in enumerate(batch):
                for job in group:
                    length = len(job.ids) - 1
                    job.past = [(keys[row, :, :length], values[row, :, :length]) for keys, values in layers]

    # Slots

    @torch.inference_mode()
    def _allocate(self, num_slots: int) -> None:
        self.slots = [None] * num_slots
        self.cache = RollingCache(self.engine.cache_examples, num_slots, 1)
        # The token that a slot is fed at each time, so one column more than the cache: the newest.
        self.token_BT1 = torch.zeros((num_slots, 2, 1), dtype=torch.long, device=self.device)
        self.state_4B = torch.zeros((4, num_slots), dtype=torch.long, device=self.device)
        self.state_4B[:] = torch.tensor(FREE_STATE, device=self.device)[:, None]
        self.to_check_B = torch.zeros(num_slots, dtype=torch.bool, device=self.device)

    def _make_room(self, before: int) -> None:
        """See that the cache has columns for all live slots, for `before` times before now, and for now."""
        cache, now = self.cache, self.cache.now
        cache.first = min((slot.start for slot in self.slots if slot), default=now)
        base = min(cache.first, now - before)
        if cache.base <= base and now - cache.base < cache.num_columns:
            return
        width = now - base + 1
        spare = max(width // 2, LEAST_SPARE)  # steps until the columns must move again
        columns = cache.num_columns if cache.num_columns >= width + spare // 2 else width + spare
        begin, end = cache.first - cache.base, now - cache.base + 1
        self.token_BT1 = move_columns(self.token_BT1, cache.base - base, begin, end, columns + 1)
        cache.rebase(base, columns)

    @torch.inference_mode()
    def _refill(self) -> None:
        """Put waiting completions into the free slots, if there are enough of them to be worth the while."""
        free = [number for number, slot in enumerate(self.slots) if slot is None]
        if REFILL_SHARE * len(free) < len(self.slots):
            return
        if not self.exhausted and self.num_waiting < len(free):
            self._draw_jobs(self.num_slots)
        entering: dict[int, Slot] = {}
        prompts: list[tuple[Job, list[int]]] = []
        while free and self.queue:
            job = self.queue[0]
            taken, free = free[: len(job.waiting)], free[len(job.waiting) :]
            prompts.append((job, taken))
            entering |= {number: Slot(job, job.waiting.popleft(), self.cache.now) for number in taken}
            if not job.waiting:
                self.queue.popleft()
        if not entering:
            self._shrink()
            return
        self._make_room(max(len(job.ids) for job, _ in prompts) - 1)
        for job, taken in prompts:
            if job.past:
                self.cache.insert(torch.tensor(taken, device=self.device), job.past)
        for number, slot in entering.items():
            self.slots[number] = slot
        numbers = torch.tensor(list(entering), device=self.device)
        states = [slot.state() for slot in entering.values()]
        self.state_4B[:, numbers] = torch.tensor(states, device=self.device).T
        fed = [slot.job.ids[-1] for slot in entering.values()]
        self.token_BT1[numbers, self.cache.now - self.cache.base, 0] = torch.tensor(fed, device=self.device)

    def _shrink(self) -> None:
        """Drop the free slots once half of all are free and nothing is left to fill them."""
        live = [number for number, slot in enumerate(self.slots) if slot]
        if not live or 2 * len(live) > len(self.slots):
            return
        self.slots = [self.slots[number] for number in live]
        kept = torch.tensor(live, device=self.device)
        self.cache.select(kept)
        self.token_BT1, self.to_check_B = self.token_BT1[kept], self.to_check_B[kept]
        self.state_4B = self.state_4B[:, kept]

    # Steps

    @torch.inference_mode()
    def _step(self) -> None:
        """Feed every slot its newest token and draw the next; a free slot looks at itself alone."""
        self._make_room(0)
        cache, now, params = self.cache, self.cache.now, self.params
        column = now - cache.base
        start_B, entered_B, deadline_B, seed_B = self.state_4B
        start_B = start_B.clamp(max=now)
        # A GPU may go a few steps beyond a completion's end before anybody looks.
        last_position = (self.engine.max_length or NEVER) - 1
        time_T = torch.arange(cache.first, now + 1, device=self.device)
        logits_B1V = self.engine.model(
            input_ids=self.token_BT1[:, column],
            attention_mask=time_T >= start_B[:, None],
            position_ids=(now - start_B)[:, None].clamp(max=last_position),
            past_key_values=cache,
            use_cache=True,
        ).logits
        logits_BV = logits_B1V[:, -1]
        self.is_broken |= logits_BV.amax(-1).isnan().any()
        token_B = draw(logits_BV, params.temperature, params.top_p, seed_B, now - entered_B)
        token_B = token_B.clamp(max=self.engine.vocab_size - 1)  # of NaN nothing can be drawn
        self.token_BT1[:, column + 1, 0] = token_B
        self.to_check_B |= self.may_end_V[token_B] | (now >= deadline_B)
        cache.now += 1

    @torch.inference_mode()
    def _harvest(self) -> None:
        """Finish the completions that have come to an end and free their slots."""
        cache = self.cache
        if self.is_broken:
            raise EngineError(
                "the model's logits are not numbers: its weights are broken, or too large for --dtype; "
                "float32 may help"
            )
        flagged = self.to_check_B.nonzero()[:, 0].tolist()
        numbers = [number for number in flagged if self.slots[number]]
        self.to_check_B.zero_()
        if not numbers:
            return
        rows = self.token_BT1[numbers, cache.first - cache.base : cache.now - cache.base + 1, 0].tolist()
        freed = []
        for number, row in zip(numbers, rows, strict=True):
            slot = self.slots[number]
            assert slot
            completion = self._completion(slot, row[slot.entered + 1 - cache.first :])
            if completion:
                self.engine.usage.generated_tokens += completion.num_tokens
                self.finished.append(completion)
                self.slots[number] = None
                freed.append(number)
        if freed:
            self.state_4B[:, freed] = torch.tensor(FREE_STATE, device=self.device)[:, None]

    def _completion(self, slot: Slot, tokens: list[int]) -> Completion | None:
        """Return the completion if its `tokens` hold an end; they may go on behind it."""
        request = slot.job.request
        for count in range(slot.checked + 1, len(tokens) + 1):
            token = tokens[count - 1]
            if token in self.engine.eos_ids:
                text = self._text(slot.job, tokens[: count - 1])
                return Completion(request.key, slot.index, text, count, "stop")
            if token in self.stop_ends and self._find_stop(
                self.engine.decode(tokens[max(0, count - self.stop_tail) : count])
            ):
                text = self._text(slot.job, tokens[:count])
                end = self._find_stop(text)
                if end is not None:
                    return Completion(request.key, slot.index, text[:end], count, "stop")
            if count == slot.job.limit:
                text = self._text(slot.job, tokens[:count])
                return Completion(request.key, slot.index, text, count, "length")
        slot.checked = len(tokens)
        return None

    def _find_stop(self, text: str) -> int | None:
        """Return where the first stop text begins."""
        return min((start for stop in self.params.stop if (start := text.find(stop)) >= 0), default=None)

    def _text(self, job: Job, tokens: list[int]) -> str:
        """Return what `tokens` add to the prompt's text: alone they might lose a leading blank."""
        text = self.engine.decode(job.context + tokens)
        if text.startswith(job.context_text):
            return text[len(job.context_text) :]
        return self.engine.decode(tokens)  # the prompt ended within a character
