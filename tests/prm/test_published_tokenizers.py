"""PRM formats with the tokenizers of published models: the ids of their model cards, and a tag per step."""

from dataclasses import replace
from typing import Any, Literal

import pytest

from erprm_cli import shipped
from erprm_cli.errors import RowError, UserError
from erprm_cli.prm.formats import PrmFormat, load_prm_format
from erprm_cli.prm.tagger import Tagger, suitable_formats
from tests.real_tokenizers import PUBLISHED, llama3, mistral, published
from tests.tiny_models import make_tokenizer

PROBLEM = "What is $\\frac{1}{2} + 3$?"
STEPS = ["First, 3 = \\(\\frac{6}{2}\\)", "So 1 + 6 = 7.\nIt is a half of 7.", "The answer is: 7/2"]

slow = pytest.mark.thorough


def card(name: str, *parts: int | str) -> list[int]:
    """Return token ids as a model card writes them: special tokens by their ids, text between them."""
    encode = published(name).backend_tokenizer.encode
    ids: list[int] = []
    for part in parts:
        ids += [part] if isinstance(part, int) else encode(part, add_special_tokens=False).ids
    return ids


def tagged(prm_format: str, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids of the example and the tokens at which its steps are scored."""
    found = Tagger(load_prm_format(prm_format), tokenizer).encode(PROBLEM, STEPS)
    return found.ids.tolist(), found.ids[found.tags].tolist()


def with_extra(name: str) -> Any:
    """Return a copy of a tokenizer with <extra_0>, as that of Qwen2.5-Math-PRM has it."""
    tokenizer = published(name).__class__.from_pretrained(published(name).name_or_path)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_0>"]})
    return tokenizer


@slow
def test_er_prm_on_llama_is_problem_space_and_steps_with_tag_116624() -> None:
    text = PROBLEM + " " + "".join(step + " ки" for step in STEPS)
    ids = card("llama3_1", 128000, text)
    assert tagged("er-prm", published("llama3_1")) == (ids, [116624] * 3)
    assert [index for index, token in enumerate(ids) if token == 116624][-1] == len(ids) - 1


@slow
def test_math_psa_on_qwen_is_tag_76325() -> None:
    text = PROBLEM + " " + "".join(step + " \n\n\n\n\n" for step in STEPS)
    assert tagged("math-psa", published("qwen2_5")) == (card("qwen2_5", text), [76325] * 3)


@slow
@pytest.mark.parametrize("name", ["qwen2_5", "qwen3"])
def test_qwen_on_qwen_is_the_chat_of_its_card(name: str) -> None:
    # Qwen3's own template puts an empty thought before the last answer, which the format does not have.
    tokenizer = with_extra(name)
    extra = tokenizer.convert_tokens_to_ids("<extra_0>")
    system = "Please reason step by step, and put your final answer within \\boxed{}."
    ids = card(name, 151644, "system\n" + system, 151645, "\n", 151644, "user\n" + PROBLEM, 151645, "\n")
    ids += card(name, 151644, "assistant\n")
    for step in STEPS:
        ids += card(name, step, extra)
    assert tagged("qwen", tokenizer) == (ids, [extra] * 3)
    tokenizer.chat_template = None  # a base model without one: the template of the published model
    assert tagged("qwen", tokenizer) == (ids, [extra] * 3)


@slow
def test_rlhflow_on_llama_and_on_qwen3_asks_after_every_step_in_the_same_way() -> None:
    def llama(turn: str) -> list[int]:
        answer = card("llama3_1", 128009, 128006, "assistant", 128007, "\n\n+")
        return card("llama3_1", 128006, "user", 128007, "\n\n" + turn) + answer

    texts = [f"{PROBLEM} {STEPS[0]}", *STEPS[1:]]
    ids = [128000] + [token for text in texts for token in (*llama(text), 128009)]
    newlines = card("llama3_1", "\n\n")
    assert tagged("rlhflow", published("llama3_1")) == (ids[:-2], newlines * 3)  # scored before each "+"

    def qwen(turn: str) -> list[int]:
        return card("qwen3", 151644, "user\n" + turn, 151645, "\n", 151644, "assistant\n+", 151645, "\n")

    ids = [token for text in texts for token in qwen(text)]
    assert tagged("rlhflow", published("qwen3")) == (ids[:-3], [198] * 3)


@slow
def test_a_base_model_without_a_chat_template_gets_that_of_the_published_model() -> None:
    tokenizer = type(llama3())(tokenizer_object=llama3().backend_tokenizer, bos_token="<|begin_of_text|>")
    assert tagged("rlhflow", tokenizer) == tagged("rlhflow", llama3())


@slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_suitable_format_has_one_bos_and_one_tag_per_step(name: str) -> None:
    tokenizer = published(name)
    found = suitable_formats(tokenizer)
    assert {"rlhflow", "skywork", "trl", "reasoneval"} <= {*found}
    assert ("er-prm" in found) == (not name.startswith("qwen"))  # " ки" is two tokens of Qwen's
    for prm_format in found:
        ids, tags = tagged(prm_format, tokenizer)
        assert len(tags) == len(STEPS)
        if tokenizer.bos_token_id is not None:
            assert ids.count(tokenizer.bos_token_id) <= 1


@slow
def test_an_unsuitable_format_names_those_that_suit() -> None:
    with pytest.raises(UserError, match=r"' ки' is not a single token .*that suit .*: math-psa, .*trl"):
        Tagger(load_prm_format("er-prm"), published("qwen2_5"))


def test_a_tag_that_is_joined_to_the_next_word_names_the_formats_that_suit() -> None:
    tagger = Tagger(load_prm_format("er-prm"), make_tokenizer(keep_tag_apart=False))
    with pytest.raises(RowError, match="step 1: .*does not suit the format er-prm.*that suit.* trl"):
        tagger.encode("Tom has 3?", ["Tom has 3.", "So 3."])


@slow
@pytest.mark.parametrize("prm_format", ["er-prm", "math-shepherd"])
def test_a_step_that_ends_in_a_space_is_named_where_the_tag_is_not_kept(prm_format: str) -> None:
    for tokenizer in (published("gemma3"), mistral()):
        tagger = Tagger(load_prm_format(prm_format), tokenizer)
        with pytest.raises(RowError, match="step 2: .*remove the space at the end of the step"):
            tagger.encode(PROBLEM, ["one", "two ", "three"])


@pytest.mark.parametrize("build", ["chat", "turns"])
def test_a_chat_template_that_refuses_is_one_line(build: Literal["chat", "turns"]) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    )
    prm_format = PrmFormat("own", "{problem} ", " ки", " +", " -", build=build, system="Be brief.")
    with pytest.raises(UserError, match="chat template of .* failed: .*System role not supported"):
        Tagger(prm_format, tokenizer).encode("Tom has 3?", ["So 3."])


def test_a_score_does_not_depend_on_the_day() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + str(tokenizer.chat_template)
    prm_format = replace(load_prm_format("rlhflow"), good=" +", bad=" -")
    text, _ = Tagger(prm_format, tokenizer).render("Tom has 3?", ["So 3."])
    assert text.startswith("26 Jul 2024<s>user: Tom has 3? So 3.")


def test_the_formats_of_chats_have_the_template_of_the_published_models() -> None:
    chats = [name for name in shipped.names("prm") if load_prm_format(name).build in ("chat", "turns")]
    assert chats == ["qwen", "rlhflow"]
    assert all(load_prm_format(name).chat_template for name in chats)
