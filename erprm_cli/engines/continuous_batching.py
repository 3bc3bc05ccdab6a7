"""Continuous batching for transformers: a finished completion's slot is taken by the next request."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from erprm_cli.engines.base import LATER, Completion, Request, SamplingParams, Usage, encode
from erprm_cli.engines.causal_model import CausalModel
from erprm_cli.engines.rolling_cache import KeysValues, RollingCache, move_columns
from erprm_cli.engines.token_sampling import draw
from erprm_cli.errors import EngineError
from erprm_cli.hashing import derive_seed

# B slots, V vocabulary, T columns (times), H heads, P prompt tokens, D head width

PREFILL_TOKENS = {"cpu": 2048, "cuda": 16384}  # in one forward pass, padding included
STEPS_PER_CHECK = {"cpu": 1, "cuda": 4}  # checking for finished slots makes the host wait for a GPU
REFILL_SHARE = 32  # refill when at least one in this many slots is free
CONTEXT_TOKENS = 8  # prompt tokens decoded with a completion, so that its first token keeps its space
LEAST_SPARE = 64  # columns
NEVER = 1 << 62
FREE_STATE = (NEVER, 0, NEVER, 0, 0)  # Slot.state of an empty slot


@dataclass(slots=True)
class QueuedRequest:
    """A request whose prompt has been read; some of its completions still wait for a slot."""

    request: Request
    ids: list[int]
    waiting: deque[int]  # indices without a slot
    context: list[int]  # the prompt's last tokens
    context_text: str
    limit: int  # tokens per completion
    past: list[KeysValues]  # per layer [H, P-1, D]: all but the last token, which the first step feeds


@dataclass(slots=True)
class Slot:
    """A completion that is being generated. Its token j was drawn at time `entered` + j."""

    queued: QueuedRequest
    index: int
    entered: int
    checked: int = 0  # tokens already searched for an end

    @property
    def start(self) -> int:
        """Time of the prompt's first token."""
        return self.entered - len(self.queued.ids) + 1

    def state(self) -> tuple[int, int, int, int, int]:
        """Return start, entered, the time at which the last token is drawn, the seed, and whether greedy."""
        request = self.queued.request
        last = self.entered + self.queued.limit - 1
        return self.start, self.entered, last, derive_seed(request.seed, self.index), request.greedy


class ContinuousBatch:
    """One call of generate: up to `num_slots` completions that decode together.

    Time counts decode steps; `cache.base` is the time of the first column.
    """

    def __init__(
        self,
        model: CausalModel,
        requests: Iterable[Request],
        params: SamplingParams,
        num_slots: int,
        usage: Usage,
    ) -> None:
        """Prepare to generate; tokens are counted in `usage` as the completions finish."""
        self.model, self.params, self.usage, self.device = model, params, usage, model.device
        self.requests = iter(requests)
        self.is_exhausted = False
        self.has_greedy = False  # among the requests so far
        self.queue: deque[QueuedRequest] = deque()
        self.finished: list[Completion] = []
        self.slots: list[Slot | None] = []
        self.num_slots = num_slots
        self.steps_per_check = STEPS_PER_CHECK[self.device.type]
        stop_ends = model.tokens_with({stop[-1] for stop in params.stop}) if params.stop else ()
        self.stop_ends = frozenset(stop_ends)  # tokens that may complete a stop text
        # The most tokens that a stop text may span.
        self.stop_tail = max((len(stop.encode()) for stop in params.stop), default=0) + 4
        self.may_end_V = torch.zeros(model.vocab_size, dtype=torch.bool, device=self.device)
        self.end_ids = model.eos_ids.union(params.stop_token_ids)
        self.may_end_V[[*self.end_ids, *stop_ends]] = True
        self.kept: dict[tuple[int, ...], list[KeysValues]] = {}  # of completions, by all tokens, oldest first
        self.has_nan = torch.zeros((), dtype=torch.bool, device=self.device)

    def __iter__(self) -> Iterator[Completion]:
        while self.num_waiting < self.num_slots and not self.is_exhausted:
            self._read_requests(self.num_slots)
            finished = self._take_finished()
            yield from finished
            if not finished:  # either there are enough, or all others depend on these
                break
        self._allocate(max(1, min(self.num_slots, self.num_waiting)))
        self._refill()
        while any(self.slots) or not self.is_exhausted:
            if any(self.slots):
                for _ in range(self.steps_per_check):
                    self._step()
                self._finish_slots()
                yield from self._take_finished()  # the next requests may depend on them
            self._refill()
            yield from self._take_finished()

    @property
    def num_waiting(self) -> int:
        """How many completions wait for a slot."""
        return sum(len(queued.waiting) for queued in self.queue)

    def _take_finished(self) -> list[Completion]:
        finished, self.finished = self.finished, []
        return finished

    # Requests

    def _read_requests(self, wanted: int) -> None:
        """Read requests for `wanted` completions, if there are as many, and prefill their prompts.

        Prompts that are too long finish at once. They count towards `wanted`: a source may hold nothing else.
        """
        model, new = self.model, list[QueuedRequest]()
        while wanted > len(self.finished) and not self.is_exhausted:
            request = next(self.requests, None)
            if request is None:
                self.is_exhausted = True
                break
            if request is LATER:
                break
            self.has_greedy |= request.greedy
            ids = encode(model.tokenizer, request.prompt)
            limit = min(request.limit(self.params), (model.max_length or NEVER) - len(ids))
            if limit < 1:
                self.usage.too_long += len(request.indices)
                self.finished += [
                    Completion(request.key, index, "", 0, "length", token_ids=()) for index in request.indices
                ]
            elif request.indices:
                self.usage.prompt_tokens += len(ids)
                context = ids[-CONTEXT_TOKENS:]
                text = self.model.decode(context)
                past = self.kept.get(tuple(ids), [])
                new.append(QueuedRequest(request, ids, deque(request.indices), context, text, limit, past))
                wanted -= len(request.indices)
        self._prefill(queued for queued in new if not queued.past)
        self.queue.extend(new)

    def _prefill(self, new: Iterable[QueuedRequest]) -> None:
        """Compute each prompt's keys and values; a prompt that begins another one shares those of it."""
        groups: list[list[QueuedRequest]] = []  # the first prompt of a group begins with all others of it
        for queued in sorted(new, key=lambda queued: queued.ids, reverse=True):
            if groups and groups[-1][0].ids[: len(queued.ids)] == queued.ids:
                groups[-1].append(queued)
            else:
                groups.append([queued])
        groups.sort(key=lambda group: len(group[0].ids))
        while groups:
            size = max(1, PREFILL_TOKENS[self.device.type] // len(groups[-1][0].ids))
            batch, groups = groups[-size:], groups[:-size]
            rows = [group[0].ids[:-1] for group in batch]
            layers = self.model.prefill(rows) if any(rows) else []
            for row, group in enumerate(batch):
                for queued in group:
                    length = len(queued.ids) - 1
                    queued.past = [
                        (keys[row, :, :length], values[row, :, :length]) for keys, values in layers
                    ]

    # Slots

    @torch.inference_mode()
    def _allocate(self, num_slots: int) -> None:
        self.slots = [None] * num_slots
        self.cache = RollingCache(self.model.cache_examples, num_slots, 1)
        # The token fed to a slot at each time. One column more than the cache: the newest token.
        self.token_BT1 = torch.zeros((num_slots, 2, 1), dtype=torch.long, device=self.device)
        self.state_5B = torch.zeros((len(FREE_STATE), num_slots), dtype=torch.long, device=self.device)
        self.state_5B[:] = torch.tensor(FREE_STATE, device=self.device)[:, None]
        self.to_check_B = torch.zeros(num_slots, dtype=torch.bool, device=self.device)

    def _make_room(self, before: int) -> None:
        """Give the cache columns for all occupied slots, for `before` times before now, and for now."""
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
        """Put waiting completions into the free slots, once enough slots are free to be worth the work."""
        free = [number for number, slot in enumerate(self.slots) if slot is None]
        if REFILL_SHARE * len(free) < len(self.slots):
            return
        if not self.is_exhausted and self.num_waiting < len(free):
            self._read_requests(self.num_slots)
        if self.num_waiting > len(free) and len(self.slots) < self.num_slots:
            self._resize(min(self.num_slots, len(self.slots) - len(free) + self.num_waiting))
            free = [number for number, slot in enumerate(self.slots) if slot is None]
        entering: dict[int, Slot] = {}
        prompts: list[tuple[QueuedRequest, list[int]]] = []
        while free and self.queue:
            queued = self.queue[0]
            taken, free = free[: len(queued.waiting)], free[len(queued.waiting) :]
            prompts.append((queued, taken))
            entering |= {number: Slot(queued, queued.waiting.popleft(), self.cache.now) for number in taken}
            if not queued.waiting:
                self.queue.popleft()
        if not entering:
            self._shrink()
            return
        self._make_room(max(len(queued.ids) for queued, _ in prompts) - 1)
        for queued, taken in prompts:
            if queued.past:
                self.cache.insert(torch.tensor(taken, device=self.device), queued.past)
        for number, slot in entering.items():
            self.slots[number] = slot
        numbers = torch.tensor(list(entering), device=self.device)
        states = [slot.state() for slot in entering.values()]
        self.state_5B[:, numbers] = torch.tensor(states, device=self.device).T
        fed = [slot.queued.ids[-1] for slot in entering.values()]
        self.token_BT1[numbers, self.cache.now - self.cache.base, 0] = torch.tensor(fed, device=self.device)

    def _shrink(self) -> None:
        """Remove the free slots when at least half are free and nothing is there to fill them."""
        occupied = [number for number, slot in enumerate(self.slots) if slot]
        if occupied and 2 * len(occupied) <= len(self.slots):
            self._resize(len(occupied))

    def _resize(self, num_slots: int) -> None:
        """Keep the occupied slots and as many free ones as make `num_slots`."""
        occupied = [number for number, slot in enumerate(self.slots) if slot]
        free = num_slots - len(occupied)
        self.slots = [*(self.slots[number] for number in occupied), *[None] * free]
        kept = torch.tensor([*occupied, *[0] * free], device=self.device)
        self.cache.select(kept)
        self.token_BT1, self.to_check_B = self.token_BT1[kept], self.to_check_B[kept]
        self.state_5B = self.state_5B[:, kept]
        self.state_5B[:, len(occupied) :] = torch.tensor(FREE_STATE, device=self.device)[:, None]
        self.to_check_B[len(occupied) :] = False

    # Steps

    @torch.inference_mode()
    def _step(self) -> None:
        """Feed every slot its newest token and draw the next; a free slot attends to itself only."""
        self._make_room(0)
        cache, now, params = self.cache, self.cache.now, self.params
        column = now - cache.base
        start_B, entered_B, deadline_B, seed_B, greedy_B = self.state_5B
        start_B = start_B.clamp(max=now)
        # With several steps per check, a slot may decode a few tokens past the end of its completion.
        last_position = (self.model.max_length or NEVER) - 1
        time_T = torch.arange(cache.first, now + 1, device=self.device)
        logits_B1V = self.model.model(
            input_ids=self.token_BT1[:, column],
            attention_mask=time_T >= start_B[:, None],
            position_ids=(now - start_B)[:, None].clamp(max=last_position),
            past_key_values=cache,
            use_cache=True,
        ).logits
        logits_BV = logits_B1V[:, -1]
        self.has_nan |= logits_BV.amax(-1).isnan().any()
        token_B = draw(logits_BV, params.temperature, params.top_p, seed_B, now - entered_B)
        if self.has_greedy:
            token_B = torch.where(greedy_B > 0, logits_BV.argmax(-1), token_B)
        token_B = token_B.clamp(max=self.model.vocab_size - 1)  # NaN logits draw a token out of range
        self.token_BT1[:, column + 1, 0] = token_B
        self.to_check_B |= self.may_end_V[token_B] | (now >= deadline_B)
        cache.now += 1

    @torch.inference_mode()
    def _finish_slots(self) -> None:
        """Collect the completions that have ended and free their slots."""
        cache = self.cache
        if self.has_nan:
            raise EngineError(
                "the model produced NaN logits; its weights may be corrupt, or too large for --dtype "
                "(float32 may help)"
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
                self.usage.generated_tokens += completion.num_tokens
                if slot.queued.request.keep:
                    self._keep(number, slot, completion)
                self.finished.append(completion)
                self.slots[number] = None
                freed.append(number)
        if freed:
            self.state_5B[:, freed] = torch.tensor(FREE_STATE, device=self.device)[:, None]

    def _keep(self, number: int, slot: Slot, completion: Completion) -> None:
        """Keep the keys and values of a completion: of as many as there are slots, the newest ones."""
        tokens = (*slot.queued.ids, *(completion.token_ids or ()))
        begin = slot.start - self.cache.base
        columns = slice(begin, begin + len(tokens) - 1)
        self.kept[tokens] = [
            (layer.keys[number, :, columns].clone(), layer.values[number, :, columns].clone())
            for layer in self.cache.states
        ]
        if len(self.kept) > self.num_slots:
            del self.kept[next(iter(self.kept))]

    def _completion(self, slot: Slot, tokens: list[int]) -> Completion | None:
        """Return the completion if `tokens` contain its end, possibly followed by more; None if not."""
        for count in range(slot.checked + 1, len(tokens) + 1):
            token = tokens[count - 1]
            if token in self.end_ids:
                text = self._text(slot.queued, tokens[: count - 1])
                return _completion(slot, text, tokens[:count], "stop")
            if token in self.stop_ends and self._find_stop(
                self.model.decode(tokens[max(0, count - self.stop_tail) : count])
            ):
                text = self._text(slot.queued, tokens[:count])
                end = self._find_stop(text)
                if end is not None:
                    return _completion(slot, text[:end], tokens[:count], "stop")
            if count == slot.queued.limit:
                text = self._text(slot.queued, tokens[:count])
                return _completion(slot, text, tokens[:count], "length")
        slot.checked = len(tokens)
        return None

    def _find_stop(self, text: str) -> int | None:
        """Return where the first stop text begins."""
        return min((start for stop in self.params.stop if (start := text.find(stop)) >= 0), default=None)

    def _text(self, queued: QueuedRequest, tokens: list[int]) -> str:
        """Return the text that `tokens` add to the prompt; decoded alone they might lose a leading space."""
        text = self.model.decode(queued.context + tokens)
        if text.startswith(queued.context_text):
            return text[len(queued.context_text) :]
        return self.model.decode(tokens)  # the prompt ended within a character


def _completion(slot: Slot, text: str, tokens: list[int], finish_reason: str) -> Completion:
    key, ids = slot.queued.request.key, tuple(tokens)
    return Completion(key, slot.index, text, len(ids), finish_reason, token_ids=ids)
