"""The stream of many searches: what is asked for when, with a policy and a PRM that are scripted."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from erprm_cli.engines.base import LATER, Completion, Failure, Request, SamplingParams, Usage
from erprm_cli.errors import EngineError, RowError, UsageError, UserError
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.policy.templates import load_template
from erprm_cli.prm.tagger import Tagged
from erprm_cli.search.beam import beam
from erprm_cli.search.config import SearchConfig
from erprm_cli.search.extender import Extender, check_tokenizer
from erprm_cli.search.prefix import Prefix
from erprm_cli.search.reader import DryReader, Reader
from erprm_cli.search.running import Running
from erprm_cli.search.stream import Finished, Stream

STEPS = 3
SETTINGS = SamplingSettings("m", None, 1.0, 1.0, 100, 0, "tiny")


class Letters:
    """A tokenizer: a character is a token."""

    bos_token, eos_token = "", "$"
    bos_token_id, eos_token_id = None, ord("$")

    def __call__(self, text: str, **_: Any) -> Any:
        return type("Encoding", (), {"input_ids": [ord(letter) for letter in text]})()

    def decode(self, ids: Iterable[int], **_: Any) -> str:
        return "".join(map(chr, ids))


class Policy:
    """Writes a letter per step, the last one without a break. `order` chooses which completion is next."""

    tokenizer = Letters()
    steps: Sequence[str] = "abcdefgh"

    def __init__(self, room: int, order: str) -> None:
        self.room, self.order = room, order
        self.usage = Usage()
        self.asked: list[str] = []  # ids of the problems, and "not yet"
        self.in_flight: list[tuple[Request, int]] = []

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion | Failure]:
        source, is_open = iter(requests), True
        while is_open or self.in_flight:
            while is_open and len(self.in_flight) < self.room:
                request = next(source, None)
                if request is None or request is LATER:
                    is_open = request is not None
                    assert is_open is False or self.in_flight, "nothing is due"
                    self.asked += ["not yet"] * is_open
                    break
                self.asked.append(request.key.problem["id"])  # type: ignore[attr-defined]
                self.in_flight += [(request, index) for index in request.indices]
            if self.in_flight:
                yield self.finish(*self.in_flight.pop(0 if self.order == "first" else -1))

    def finish(self, request: Request, index: int) -> Completion | Failure:
        search = request.key
        assert isinstance(search, Running)
        if search.problem["id"] == "broken" and index == 1:
            return Failure(search, (index,), UserError("refused"))
        step = self.steps[(index + search.round) % 8]
        is_last = search.round == STEPS - 1
        ids = (*map(ord, step), ord("$" if is_last else "\n"))
        return Completion(search, index, step, len(ids), "stop", token_ids=ids)

    def close(self) -> None:
        pass


class Prm:
    """Scores the step that ends at a tag by its letter. It has a prefix cache, by blocks of 4 tokens."""

    def __init__(self) -> None:
        self.cache: set[bytes] = set()
        self.num_tokens = 0
        self.read_whole = 0

    def encode(self, row: dict[str, Any]) -> Tagged:
        if row["problem"] == "unreadable":
            raise RowError("too long")
        text = row["problem"] + "".join(f"{step}|" for step in row["steps"])
        ids = np.array([ord(letter) for letter in text], np.int32)
        return Tagged(ids, np.flatnonzero(ids == ord("|")).astype(np.int32))

    def read(self, solutions: list[tuple[Any, Tagged]], *, is_whole: bool) -> list[list[float | None]]:
        self.read_whole += len(solutions) * is_whole
        return [self.read_one(tagged, is_whole) for _, tagged in solutions]

    def read_one(self, tagged: Tagged, is_whole: bool) -> list[float | None]:
        blocks = range(4, len(tagged.ids), 4)
        cached = max((end for end in blocks if tagged.ids[:end].tobytes() in self.cache), default=0)
        cached *= not is_whole
        self.cache |= {tagged.ids[:end].tobytes() for end in blocks}
        self.num_tokens += len(tagged.ids) - cached
        return [None if tag < cached else float(tagged.ids[tag - 1]) / 200 for tag in tagged.tags]

    def scored(self, row: dict[str, Any], values: list[float]) -> dict[str, Any]:
        return row | {"scores": values}


def begun(identity: str, problem: str, extender: Extender) -> Running:
    config = SearchConfig("beam", n=4, width=2)
    search = beam(config, lambda prefix: prefix.scores[-1], np.random.default_rng(0))
    row = {"id": identity, "problem": problem, "answer": None}
    return Running(row, search, tuple(map(ord, problem)))


def run(policy: Policy, names: Iterable[str], prm: Prm | None = None, problem: str = "") -> list[Finished]:
    extender = Extender(policy, load_template("tiny"), SETTINGS, by_steps=True)
    reader = Reader(prm or Prm())  # type: ignore[arg-type]
    searches = (begun(name, problem or f"{name}?", extender) for name in names)
    return list(Stream(searches, extender, reader).run())


def test_a_search_by_steps_needs_token_ids() -> None:
    class Textual(Policy):
        def finish(self, request: Request, index: int) -> Completion | Failure:
            found = super().finish(request, index)
            assert isinstance(found, Completion)
            return replace(found, token_ids=None)

    with pytest.raises(UserError, match="the server does not send token ids, which a search by steps needs"):
        run(Textual(1, "first"), ["p"])
    with pytest.raises(UsageError, match="it needs the model's tokenizer here"):
        check_tokenizer(None)


def texts(finished: Finished) -> list[str]:
    assert finished.found is not None
    return [prefix.text for prefix in finished.found.solutions]


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("room", [1, 5, 100])
def test_what_is_found_depends_on_no_other_search(order: str, room: int) -> None:
    names = [f"p{number}" for number in range(40)]
    found = run(Policy(room, order), names)
    assert sorted(one.running.problem["id"] for one in found) == sorted(names)
    (alone,) = run(Policy(1, "first"), names[:1])
    assert all(texts(one) == texts(alone) == ["c\nd\nf", "c\nd\ne"] for one in found)
    assert all(len(one.running.extended) == 4 for one in found)


def test_a_step_is_requested_while_another_problem_still_waits_for_its_own() -> None:
    """The newest completions finish first, so the first problem waits until all others have ended."""
    policy = Policy(8, "last")
    found = run(policy, ["slow", "quick", "quicker"])
    assert [one.running.problem["id"] for one in found] == ["quicker", "quick", "slow"]
    last = policy.asked.index("slow", 1)
    assert policy.asked[:last].count("quick") == 1 + 2 * (STEPS - 1)  # one prefix, then two for each step


def test_new_problems_fill_the_batch_before_few_prefixes_are_scored() -> None:
    policy = Policy(8, "first")
    run(policy, (f"p{number}" for number in range(100)))
    in_order = [name for name in policy.asked if name != "not yet"]
    assert in_order[:16] == [f"p{number}" for number in range(16)]  # 64 prefixes, then their second steps
    assert in_order.count("p0") == 5 and "p16" in in_order[: in_order.index("p0", 1) + 40]


def test_an_error_of_a_problem_ends_its_own_search_only() -> None:
    found = run(Policy(100, "first"), ["a", "broken", "c"])
    errors = {one.running.problem["id"]: one.running.error for one in found}
    assert errors["a"] is None and errors["c"] is None
    assert str(errors["broken"]) == "refused" and found[[*errors].index("broken")].found is None
    (unreadable,) = run(Policy(100, "first"), ["a"], problem="unreadable")
    assert str(unreadable.running.error) == "the PRM cannot read a prefix: too long"


def test_an_engine_that_ends_early_is_an_error() -> None:
    class Short(Policy):
        def generate(self, *args: Any) -> Iterator[Completion | Failure]:
            yield next(super().generate(*args))

    with pytest.raises(EngineError, match="ended with 7 completions missing"):
        run(Short(8, "first"), ["a", "b"])


def test_the_prm_reads_no_step_twice() -> None:
    prm = Prm()
    (one,) = run(Policy(4, "first"), ["a"], prm, problem="What is it?")
    assert one.found is not None
    assert all(len(prefix.scores) == STEPS for prefix in one.found.solutions)
    tokens, distinct = one.running.tokens, len(one.running.scores)
    assert tokens.prm_new == len("What is it?") + 2 * distinct  # a letter and a tag each
    assert (tokens.prompt_new, tokens.generated) == (len("What is it?"), 2 * 4 * STEPS)
    assert tokens.prm_new <= prm.num_tokens < tokens.prm
    assert prm.read_whole == 0


def test_the_order_in_which_completions_end_changes_no_count() -> None:
    class Alike(Policy):
        steps = ("one", "two", "twelve", "three", "thirty", "four", "forty", "five")

    first, last = (run(Alike(4, order), ["a"])[0].running.tokens for order in ("first", "last"))
    assert first == last


def test_what_the_cache_has_of_another_search_is_read_again() -> None:
    prm, steps = Prm(), ("c", "d")
    extender = Extender(Policy(1, "first"), load_template("tiny"), SETTINGS, by_steps=True)
    search = begun("a", "Where?", extender)
    prm.read_one(prm.encode({"problem": "Where?", "steps": [*steps, "e"]}), is_whole=True)
    search.extended = {0: Prefix("c\nd", steps=steps)}
    Reader(prm).score([search])  # type: ignore[arg-type]
    assert search.extended[0].scores == (ord("c") / 200, ord("d") / 200)
    assert prm.read_whole == 1


def test_a_dry_run_reads_nothing() -> None:
    """Its completions are empty, and there are formats in which no PRM can read an empty step."""
    extender = Extender(Policy(8, "first"), load_template("tiny"), SETTINGS, by_steps=True)
    prm = Prm()
    found = list(Stream([begun("a", "unreadable", extender)], extender, DryReader(prm)).run())  # type: ignore[arg-type]
    ((running, result),) = found
    assert running.error is None and result is not None
    assert all(prefix.scores == (0.5,) * STEPS for prefix in result.solutions)
    assert prm.num_tokens == running.tokens.prm == 0
