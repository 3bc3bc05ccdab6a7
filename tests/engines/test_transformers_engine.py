from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from erprm_cli.engines.base import LATER, Completion, Request, SamplingParams
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine
from erprm_cli.engines.token_sampling import draw, uniforms
from erprm_cli.engines.transformers_engine import TransformersEngine
from erprm_cli.errors import EngineError, UsageError, UserError
from tests.tiny_models import make_model, make_tokenizer

PROMPTS = [
    "Tom has 3 apples.",
    "Question: Tom has 1 2 3 apples. Tom gets 4 more apples. So Tom has",
    "Step 1: 2 + 3 =",
    "Tom",
    "The answer is 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 So Tom gets more",
]


def engine_of(kind: str = "llama", batch_size: int = 0) -> TransformersEngine:
    tokenizer = make_tokenizer()
    return TransformersEngine(make_model(kind, len(tokenizer)), tokenizer, batch_size)


def run(
    engine: TransformersEngine, params: SamplingParams, n: int = 1, prompts: list[str] = PROMPTS
) -> dict[tuple[int, int], Completion]:
    requests = (Request(key, text, tuple(range(n)), key) for key, text in enumerate(prompts))
    done = [completion for completion in engine.generate(requests, params)]
    assert len(done) == n * len(prompts)
    return {(int(str(completion.key)), completion.index): completion for completion in done}


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2", "gemma3"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.slow
def test_greedy_completions_equal_those_of_generate(kind: str, batch_size: int) -> None:
    engine = engine_of(kind, batch_size)
    found = run(engine, SamplingParams(temperature=0.0, max_tokens=40))
    for key, prompt in enumerate(PROMPTS):
        ids = engine.tokenizer(prompt, return_tensors="pt")
        expected = engine_reference(kind).generate(**ids, max_new_tokens=40, do_sample=False)[0]
        new = expected[ids.input_ids.shape[1] :]
        ended = int(new[-1]) in engine.causal_model.eos_ids
        written = new[:-1] if ended else new  # special tokens within the text are part of it
        assert found[key, 0].text == engine.tokenizer.decode(written)
        assert found[key, 0].num_tokens == len(new)


def engine_reference(kind: str) -> Any:
    """Return the same random model as `engine_of`, as transformers runs it."""
    return make_model(kind, len(make_tokenizer()))


@pytest.mark.slow
def test_the_batch_size_does_not_change_a_completion() -> None:
    params = SamplingParams(temperature=1.0, top_p=0.9, max_tokens=30)
    alone, few, many = (run(engine_of(batch_size=size), params, n=6) for size in (1, 4, 64))
    assert alone == few == many
    assert len({completion.text for completion in alone.values()}) > 15


def test_a_completion_does_not_depend_on_the_others_of_its_request() -> None:
    params = SamplingParams(max_tokens=20)
    whole = run(engine_of(), params, n=5)
    request = Request(0, PROMPTS[0], (3, 1), 0)
    part = {completion.index: completion for completion in engine_of().generate([request], params)}
    assert part == {index: whole[0, index] for index in (1, 3)}


@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.6)])
def test_tokens_are_drawn_with_their_probabilities(temperature: float, top_p: float) -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5])
    expected = (logits / temperature).softmax(-1)
    if top_p < 1:  # 0.6 of the mass: the first token (0.56) and the second
        expected = torch.where(torch.tensor([True, True, False, False, False]), expected, 0.0)
        expected /= expected.sum()
    size = 40_000
    drawn = draw(logits.expand(size, -1), temperature, top_p, torch.arange(size), torch.full((size,), 7))
    observed = torch.bincount(drawn, minlength=5)
    assert not observed[expected == 0].any()
    kept = expected > 0
    chi_square = (((observed - size * expected) ** 2)[kept] / (size * expected[kept])).sum()
    assert chi_square < 18.5  # the 99.9th percentile at 4 degrees of freedom


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-6])
def test_a_temperature_of_almost_0_is_greedy(temperature: float) -> None:
    logits = torch.tensor([[100.0, -80.0, 101.0, 3.0]])
    assert draw(logits, temperature, 1.0, torch.tensor([1]), torch.tensor([0])).tolist() == [2]


def test_uniforms_are_those_of_splitmix64() -> None:
    # The published first outputs of the generator with seed 1234567; the top 52 bits are used.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    found = uniforms(torch.full((3,), 1234567), torch.arange(3))
    assert found.tolist() == [(number >> 12) * 2.0**-52 for number in expected]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_requests_may_depend_on_completions_of_the_same_call(batch_size: int) -> None:
    """Chains of requests, each of which continues a completion, with more completions from link to link."""
    engine, params = engine_of(batch_size=batch_size), SamplingParams(max_tokens=6)
    first = [Request((key, 0), text, (0,), key, keep=True) for key, text in enumerate(PROMPTS)]

    def follow(completion: Completion) -> Request | None:
        key, link = cast(tuple[int, int], completion.key)
        if link:
            return None
        ids = engine.tokenizer(requests[completion.key].prompt).input_ids
        return Request((key, 1), (*ids, *(completion.token_ids or ())), (0, 1, 2), key, greedy=key == 1)

    requests: dict[Any, Request] = {request.key: request for request in first}
    ready, due, found = list(first), 0, dict[Any, Completion]()

    def source() -> Iterator[Request]:
        nonlocal due
        while ready or due:
            if ready:
                request = ready.pop(0)
                due += len(request.indices)
                yield request
            else:
                yield LATER

    for completion in engine.generate(source(), params):
        due -= 1
        found[completion.key, completion.index] = completion
        if (request := follow(completion)) is not None:
            requests[request.key] = request
            ready.append(request)
    assert len(found) == len(PROMPTS) * 4
    for (key, link), request in requests.items():
        own = replace(params, temperature=0.0) if request.greedy else params
        alone = {one.index: one for one in engine.generate([replace(request, greedy=False)], own)}
        assert alone == {index: found[(key, link), index] for index in request.indices}
        assert (len({one.text for one in alone.values()}) == 1) == (not link or request.greedy)


def test_requests_are_read_as_there_is_room() -> None:
    read = 0

    def endless() -> Iterator[Request]:
        nonlocal read
        for read in count(1):
            yield Request(read, PROMPTS[read % len(PROMPTS)], (0,), read)

    stream = engine_of(batch_size=4).generate(endless(), SamplingParams(max_tokens=10))
    first = [next(stream) for _ in range(20)]
    assert len({completion.key for completion in first}) == 20
    assert read < 40


@pytest.mark.slow
def test_a_stop_text_ends_a_completion_and_is_not_in_it() -> None:
    engine = engine_of()
    whole = run(engine, SamplingParams(temperature=0.0, max_tokens=40))
    text = whole[1, 0].text
    stop = text[10:13]
    cut = run(engine, SamplingParams(temperature=0.0, max_tokens=40, stop=(stop,)))[1, 0]
    assert cut.text == text[: text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.num_tokens < whole[1, 0].num_tokens


def test_max_tokens_end_a_completion_as_unfinished() -> None:
    found = run(engine_of(), SamplingParams(max_tokens=3), n=4)
    assert {completion.num_tokens for completion in found.values()} <= {1, 2, 3}
    for completion in found.values():
        assert (completion.finish_reason == "length") == (completion.num_tokens == 3) or (
            completion.finish_reason == "stop"
        )


def test_a_prompt_that_fills_the_context_is_counted_and_does_not_stop_the_others() -> None:
    engine = engine_of()
    found = run(engine, SamplingParams(max_tokens=5), prompts=[" Tom has" * 200, "Tom has"])
    assert (found[0, 0].text, found[0, 0].num_tokens, found[0, 0].finish_reason) == ("", 0, "length")
    assert found[1, 0].num_tokens > 0
    assert engine.usage.too_long == 1


def test_token_ids_are_continued_as_they_are() -> None:
    engine = engine_of()
    ids = tuple(engine.tokenizer(PROMPTS[1]).input_ids)
    params = SamplingParams(temperature=0.0, max_tokens=20)
    (by_ids,) = engine.generate([Request(0, ids, (0,), 0)], params)
    (by_text,) = engine.generate([Request(0, PROMPTS[1], (0,), 0)], params)
    assert by_ids == by_text


def test_a_completion_keeps_the_space_before_its_first_word() -> None:
    words = ["<unk>", "</s>", *(f"▁{letter}" for letter in "abcdefgh")]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")
    model = make_model("llama", len(words))
    engine = TransformersEngine(model, wrapped)
    (found,) = engine.generate([Request(0, "a b c", (0,), 0)], SamplingParams(0.0, max_tokens=3))
    assert found.text.startswith(" ")
    ids = wrapped("a b c", return_tensors="pt").input_ids
    reference = make_model("llama", len(words)).generate(ids, max_new_tokens=3, do_sample=False)
    assert "a b c" + found.text == str(wrapped.decode(reference[0])).removesuffix("</s>")


def test_the_shipped_policy_solves_problems() -> None:
    engine = open_engine(EngineConfig("tiny"))
    problem = "Ann has 7 shells. Ida takes 5 of the shells. Ann gets 4 more."
    prompt = f"Question: {problem} How many shells does Ann have now?\nAnswer:\n"
    found = list(engine.generate([Request(0, prompt, tuple(range(20)), 0)], SamplingParams(max_tokens=80)))
    engine.close()
    completions = [one for one in found if isinstance(one, Completion)]
    assert completions == found
    texts = Counter(completion.text for completion in completions)
    assert texts["Step 1: less, 7 - 5 = 2.\nStep 2: more, 2 + 4 = 6.\nThe answer is: 6"] >= 15
    assert all(completion.finish_reason == "stop" for completion in completions)


def test_a_model_without_a_cache_of_keys_and_values_is_refused() -> None:
    config = AutoConfig.for_model(
        "mamba",
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with pytest.raises(
        UsageError, match="supports decoder-only attention models only, not MambaForCausalLM; "
    ):
        TransformersEngine(AutoModelForCausalLM.from_config(config), make_tokenizer())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "the GPU is out of memory; a smaller --batch-size may",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "out of memory; a smaller",
        ),
    ],
)
def test_memory_that_runs_out_is_an_engine_error(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(make_model("llama", len(make_tokenizer())), make_tokenizer())

    def no_memory(*_: object) -> None:
        raise error

    monkeypatch.setattr(engine.causal_model, "prefill", no_memory)
    with pytest.raises(EngineError, match=message):
        list(engine.generate([Request("a", (5, 6), (0,), 0)], SamplingParams(1.0, 1.0, 4)))


def test_a_folder_without_a_model_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load the folder"):
        open_engine(EngineConfig(str(tmp_path)))


def test_an_endless_stream_of_prompts_that_are_too_long_yields_as_it_goes() -> None:
    engine = engine_of(batch_size=2)
    requests = (Request(key, tuple([5] * 300), (0,), 0) for key in count())
    found = engine.generate(requests, SamplingParams(max_tokens=4))
    assert [next(found).finish_reason for _ in range(5)] == ["length"] * 5


def test_prompts_that_are_too_long_do_not_end_a_run() -> None:
    engine = engine_of(batch_size=2)
    long = [Request(("long", key), tuple([5] * 300), (0,), 0) for key in range(7)]
    short = [Request(("short", key), tuple([5] * 9), (0,), key) for key in range(3)]
    requests = [*long[:5], *short[:2], *long[5:], *short[2:]]
    done = list(engine.generate(requests, SamplingParams(max_tokens=4)))
    assert {completion.key for completion in done} == {request.key for request in requests}
    assert all(
        (completion.num_tokens > 0) == (completion.key in {r.key for r in short}) for completion in done
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_logits_are_an_engine_error(temperature: float) -> None:
    engine = engine_of()
    with torch.no_grad():
        engine.model.get_output_embeddings().weight[3] = float("nan")
    with pytest.raises(EngineError, match="NaN logits"):
        run(engine, SamplingParams(temperature=temperature, max_tokens=8))


@pytest.mark.slow
def test_a_nucleus_wider_than_the_first_top_k_is_exact() -> None:
    torch.manual_seed(0)
    logits_BV = torch.randn(4, 5000) * 0.1
    probability_BV = logits_BV.softmax(-1)
    for top_p in (0.05, 0.9):
        drawn = {
            int(token)
            for position in range(300)
            for token in draw(logits_BV, 1.0, top_p, torch.arange(4), torch.full((4,), position))[:1]
        }
        order = probability_BV[0].argsort(descending=True)
        size = int((probability_BV[0][order].cumsum(0) < top_p).sum()) + 1
        assert drawn <= set(order[:size].tolist())
        assert len(drawn) > 0.5 * min(size, 300)


def test_generation_ends_at_the_end_of_a_turn_and_keeps_other_special_tokens() -> None:
    engine = engine_of()
    prompt = tuple(engine.tokenizer("Tom has").input_ids)
    params = SamplingParams(temperature=0.0, max_tokens=40)
    (whole,) = engine.generate([Request(0, prompt, (0,), 0)], params)
    assert isinstance(whole, Completion)
    ids = engine.tokenizer(whole.text, add_special_tokens=False).input_ids
    end = ids[5]  # a token of the model's own greedy text
    (cut,) = engine.generate([Request(0, prompt, (0,), 0)], replace(params, stop_token_ids=(end,)))
    assert isinstance(cut, Completion)
    count = ids.index(end)
    assert (cut.text, cut.finish_reason) == (engine.tokenizer.decode(ids[:count]), "stop")
    assert cut.num_tokens < whole.num_tokens


@pytest.mark.parametrize("batch_size", [0, 3])
def test_requests_that_follow_from_completions_give_the_same_ones(batch_size: int) -> None:
    """Two completions per prompt, then six more of some: what eight at once would be, whatever the slots."""
    params = SamplingParams(max_tokens=20)
    whole = run(engine_of(), params, 8)
    taken: list[Completion] = []

    def requests() -> Iterator[Request]:
        yield from (Request(key, text, (0, 1), key) for key, text in enumerate(PROMPTS))
        followed: set[int] = set()
        while len(taken) < 2 * len(PROMPTS) or len(followed) < len(PROMPTS):
            ready = {int(str(one.key)) for one in taken} - followed
            if not ready:
                yield LATER
                continue
            followed.add(key := min(ready))
            yield Request(key, PROMPTS[key], tuple(range(2, 8)), key)

    for completion in engine_of(batch_size=batch_size).generate(requests(), params):
        taken.append(completion)
    assert {(one.key, one.index): one for one in taken} == whole


def test_a_prompt_that_is_too_long_may_be_followed_by_others() -> None:
    taken: list[Completion] = []

    def requests() -> Iterator[Request]:
        yield Request(0, "Tom " * 400, (0,), 0)
        while not taken:
            yield LATER
        yield Request(1, "Tom has", (0,), 1)

    for completion in engine_of().generate(requests(), SamplingParams(max_tokens=5)):
        taken.append(completion)
    assert [(one.key, one.num_tokens > 0) for one in taken] == [(0, False), (1, True)]
