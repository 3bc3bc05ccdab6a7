"""How completions end, and what a server does not complete: shapes are in test_server_answers.py."""

from collections.abc import Callable
from contextlib import closing
from itertools import count
from typing import Any

import pytest

from erprm_cli.engines.base import Chat, Completion, Failure, Request
from erprm_cli.engines.open import open_engine
from erprm_cli.errors import EngineError, UserError
from tests.engines.server_runs import PARAMS, complete, config, only_completions
from tests.scripted_server import Fields, Reply, ScriptedServer, completed, refusal, serving

pytestmark = pytest.mark.usefixtures("quick", "no_tokenizer")


def finished(reason: Any, when: Callable[[Fields], bool] = lambda _: True, **changes: Any) -> Any:
    """Return the script of a server that ends its choices with `reason` where `when(fields)` is true."""

    def say(_: str, fields: Fields) -> Reply:
        reply = completed(fields)
        if fields["max_tokens"] > 1 and when(fields):
            for choice in reply.body["choices"]:
                choice |= {"finish_reason": reason} | changes
        return reply

    return say


def is_first(fields: Fields) -> bool:
    return bool(fields["prompt"] == "prompt 0")


def results_of(server: ScriptedServer, requests: int = 3, n: int = 2) -> list[Completion | Failure]:
    with closing(open_engine(config(server))) as engine:
        wanted = (Request(key, f"prompt {key}", tuple(range(n)), key) for key in range(requests))
        return list(engine.generate(wanted, PARAMS))


@pytest.mark.parametrize("reason", [None, "", "eos", "end_turn", "STOP", "tool_calls", "something new"])
def test_a_natural_end_is_stop(reason: str | None) -> None:
    with serving(finished(reason)) as server:
        (completion,) = complete(server)
    assert completion.finish_reason == "stop"


@pytest.mark.parametrize("reason, finish", [(None, "length"), ("new", "length"), ("stop", "stop")])
def test_at_the_limit_of_tokens_an_unknown_end_is_length(reason: str | None, finish: str) -> None:
    with serving(finished(reason, token_ids=list(range(50)))) as server:
        (completion,) = complete(server)
    assert (completion.finish_reason, completion.num_tokens) == (finish, 50)


def test_a_missing_finish_reason_is_unknown() -> None:
    def say(_: str, fields: Fields) -> Reply:
        reply = completed(fields)
        for choice in reply.body["choices"]:
            del choice["finish_reason"]
        return reply

    with serving(say) as server:
        assert complete(server)[0].finish_reason == "stop"


@pytest.mark.parametrize("changes", [{}, {"error": {"message": "provider went away", "code": 502}}])
@pytest.mark.parametrize("reason", ["abort", "error", "cancelled"])
def test_an_aborted_completion_is_asked_for_again(reason: str, changes: Any) -> None:
    left = count(3, -1)
    with serving(finished(reason, lambda _: next(left) > 0, **changes)) as server:
        (completion,) = complete(server)
    assert completion.text == "The answer is: 5" and len(server.work) == 4


def test_only_what_was_aborted_is_asked_for_again_with_the_seed_that_it_had() -> None:
    def say(_: str, fields: Fields) -> Reply:
        reply = completed(fields)
        if fields.get("n", 1) == 4:
            for index in (1, 2):
                reply.body["choices"][index]["finish_reason"] = "abort"
        return reply

    with serving(say) as server:
        completions = complete(server, n=4)
    assert sorted(one.index for one in completions) == [0, 1, 2, 3]
    first, second = server.work
    assert (second["n"], second["seed"] - first["seed"]) == (2, 1)


def test_a_prompt_whose_completions_are_always_aborted_is_a_failure() -> None:
    with serving(finished("abort", is_first)) as server:
        results = results_of(server)
    (failure,) = [one for one in results if isinstance(one, Failure)]
    assert (failure.key, failure.indices, type(failure.error)) == (0, (0, 1), EngineError)
    assert "failed 6 times in a row; last error: finish_reason abort" in str(failure.error)
    assert len(results) == 5 and len(server.work) == 8


def test_a_filtered_completion_is_a_failure_and_the_others_are_not() -> None:
    def say(_: str, fields: Fields) -> Reply:
        reply = completed(fields)
        if fields.get("prompt") == "prompt 0":
            reply.body["choices"][1]["finish_reason"] = "content_filter"
        return reply

    with serving(say) as server:
        results = results_of(server)
    (failure,) = [one for one in results if isinstance(one, Failure)]
    assert (failure.key, failure.indices) == (0, (1,)) and "content_filter" in str(failure.error)
    assert len(results) == 6 and len(server.work) == 3


@pytest.mark.parametrize(
    "reason",
    [
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        "Input validation error: `inputs` must have less than 1024 tokens. Given: 1500",
        "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
        "max_tokens is too large: 50. This model supports at most 0 completion tokens",
        "the prompt triggered the content management policy",
        "the third word of the prompt is not welcome",
    ],
)
def test_a_prompt_that_is_refused_is_a_failure(reason: str) -> None:
    def say(_: str, fields: Fields) -> Reply:
        return refusal(reason) if fields.get("prompt") == "prompt 0" else completed(fields)

    with serving(say) as server:
        results = results_of(server)
    (failure,) = [one for one in results if isinstance(one, Failure)]
    assert (failure.key, failure.indices, type(failure.error)) == (0, (0, 1), UserError)
    assert reason in str(failure.error) and len(results) == 5


def test_a_refusal_of_every_prompt_is_about_the_settings() -> None:
    def say(_: str, fields: Fields) -> Reply:
        return completed(fields) if fields["max_tokens"] == 1 else refusal("top_p must not be that")

    with serving(say) as server, pytest.raises(UserError, match="top_p must not be that") as caught:
        results_of(server, requests=100)
    assert type(caught.value) is UserError and len(server.work) < 100


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_refusal_that_is_about_the_account_ends_the_run(status: int) -> None:
    def say(_: str, fields: Fields) -> Reply:
        is_first = fields.get("prompt") == "prompt 0"
        return refusal("no credits left", status) if is_first else completed(fields)

    with serving(say) as server, pytest.raises(UserError, match="no credits left"):
        results_of(server)


def test_more_choices_than_asked_for_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    """Their tokens are counted in the usage, and not one by one."""

    def say(_: str, fields: Fields) -> Reply:
        return completed(fields | {"n": 3, "return_token_ids": False})

    with serving(say) as server:
        completions = complete(server, n=2)
    assert {(one.index, one.num_tokens) for one in completions} == {(0, 4), (1, 4)}
    assert capsys.readouterr().err.count("gives more completions than asked for") == 1


@pytest.mark.parametrize("thinking", ["reasoning_content", "reasoning", None])
def test_an_empty_answer_without_reasoning_warns_once(
    thinking: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(_: str, fields: Fields) -> Reply:
        reply = completed(fields)
        for choice in reply.body["choices"]:
            choice["message"] = {"content": None} | ({thinking: "2 + 3 = 5"} if thinking else {})
        return reply

    with serving(say) as server, closing(open_engine(config(server))) as engine:
        chat = Chat((("user", "hi"),))
        found = only_completions(engine.generate([Request("a", chat, (0, 1, 2), 0)], PARAMS))
    assert [(one.text, one.reasoning) for one in found] == [("", thinking and "2 + 3 = 5")] * 3
    assert capsys.readouterr().err.count("warning: an answer of the server is empty") == (thinking is None)


def test_a_content_of_parts_and_half_characters_are_read() -> None:
    def say(_: str, fields: Fields) -> Reply:
        reply = completed(fields)
        parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "The answer is: 5 \ud83d"}]
        for choice in reply.body["choices"]:
            choice["message"] = {"content": parts}
        return reply

    with serving(say) as server, closing(open_engine(config(server))) as engine:
        (found,) = only_completions(engine.generate([Request("a", Chat((("user", "hi"),)), (0,), 0)], PARAMS))
    assert found.text == "The answer is: 5 \ufffd"
