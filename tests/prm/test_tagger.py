from dataclasses import replace
from types import SimpleNamespace

import pytest

from erprm_cli.errors import RowError, UserError
from erprm_cli.prm.formats import ER_PRM, PrmFormat, load_prm_format
from erprm_cli.prm.tagger import Tagger
from tests.real_tokenizers import llama3, mistral
from tests.tiny_models import make_tokenizer


def test_every_step_ends_with_the_tag_and_nothing_follows_the_last() -> None:
    tokenizer = make_tokenizer()
    tagged = Tagger(load_prm_format(ER_PRM), tokenizer).encode("Tom has 3?", ["Step 1: 3.", "So 3."])
    tokens = tokenizer.convert_ids_to_tokens(tagged.ids.tolist())
    assert "".join(tokens) == "<s>Tom has 3? Step 1: 3. киSo 3. ки"
    assert [tokens[tag] for tag in tagged.tags] == [" ки", " ки"]
    assert tagged.tags[-1] == len(tokens) - 1


def test_a_tag_in_the_problem_or_in_a_step_is_not_a_tag() -> None:
    tokenizer = make_tokenizer()
    tagged = Tagger(load_prm_format(ER_PRM), tokenizer).encode("Tom ки has?", ["So ки 3.", "3."])
    tags = [i for i, token in enumerate(tagged.ids) if token == tokenizer.convert_tokens_to_ids(" ки")]
    assert tagged.tags.tolist() == [tags[2], tags[3]]


def test_a_tag_that_the_tokenizer_joins_to_the_next_word_is_an_error() -> None:
    tagger = Tagger(load_prm_format(ER_PRM), make_tokenizer(keep_tag_apart=False))
    with pytest.raises(RowError, match="step 1: the tag ' ки' is not one token in .*киSo"):
        tagger.encode("Tom has 3?", ["Tom has 3.", "So 3."])


def test_words_that_are_not_one_token_or_the_same_token_are_refused() -> None:
    with pytest.raises(UserError, match="'good' is not a single token .*add_tokens"):
        Tagger(PrmFormat("x", "{problem} ", " ки", "good", " -"), make_tokenizer())
    with pytest.raises(UserError, match="' 12' is not a single token"):
        Tagger(PrmFormat("x", "{problem} ", " ки", " 12", " -"), make_tokenizer())
    with pytest.raises(UserError, match="three different tokens"):
        Tagger(PrmFormat("x", "{problem} ", " ки", " +", " +"), make_tokenizer())


def test_a_tokenizer_without_offsets_is_refused() -> None:
    slow = SimpleNamespace(is_fast=False, name_or_path="slow")
    with pytest.raises(UserError, match="the tokenizer slow does not give character offsets"):
        Tagger(load_prm_format(ER_PRM), slow)


@pytest.mark.parametrize("offset", [1, 10**12, -(10**12)])
def test_a_place_beyond_the_text_is_a_bad_row(offset: int) -> None:
    prm_format = replace(load_prm_format(ER_PRM), offset=offset)
    with pytest.raises(RowError, match="a step has no token of its own, at which the format er-prm"):
        Tagger(prm_format, make_tokenizer()).encode("Tom has 2?", ["Step 1: 2", "The answer is: 2"])


def test_a_step_without_a_token_where_the_format_needs_one_is_a_bad_row() -> None:
    with pytest.raises(RowError, match="no token of its own"):
        Tagger(load_prm_format("reasoneval-34b"), mistral()).encode("Why?", ["a", ""])


def test_a_token_that_no_model_has_is_a_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = Tagger(load_prm_format("reasoneval"), mistral())
    monkeypatch.setattr(tagger, "_ids", lambda text: [1 << 31])
    with pytest.raises(RowError, match="gives the token 2,147,483,648, which no model has"):
        tagger.encode("Why?", ["a"])


@pytest.mark.slow
def test_a_chat_format_needs_a_chat_template() -> None:
    prm_format = PrmFormat("own", "{problem}", "<|eot_id|>", kind="head", build="chat")
    tokenizer = type(llama3())(tokenizer_object=llama3().backend_tokenizer)
    with pytest.raises(UserError, match="no chat template"):
        Tagger(prm_format, tokenizer).encode("Why?", ["a"])


CHAT = PrmFormat("x", "{problem}", " ки", kind="value", build="chat")
TURNS = PrmFormat("x", "{problem} ", "", "+", kind="value", build="turns")


@pytest.mark.parametrize(
    ("prm_format", "template", "what"),
    [
        (CHAT, "{% for turn in messages %}{{ turn.content | upper }}{% endfor %}", "the assistant's turn"),
        (
            CHAT,
            "{% for turn in messages %}{{ turn.content | replace('a b', 'ab') }}{% endfor %}",
            "the assistant's turn",
        ),
        (
            TURNS,
            "{% for turn in messages %}{{ turn.content | trim('+') }}{% endfor %}",
            "the answer to step 1",
        ),
    ],
)
def test_a_chat_template_that_changes_the_steps_is_refused(
    prm_format: PrmFormat, template: str, what: str
) -> None:
    tagger = Tagger(prm_format, make_tokenizer())
    tagger.tokenizer.chat_template = template
    with pytest.raises(
        RowError, match=f"the chat template of .* changes {what}, so the tags cannot be found"
    ):
        tagger.encode("Q?", ["a b", "c"])
