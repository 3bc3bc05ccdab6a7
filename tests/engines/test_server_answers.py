"""What servers answer, in the words that they use."""

import json
from typing import Any

import pytest

from erprm_cli.engines import server_answers
from erprm_cli.engines.server_answers import (
    ServedModel,
    error_in,
    finish_of,
    read_answer,
    read_json,
    read_models,
)
from erprm_cli.rows.schema import REASONING_NAMES


@pytest.mark.parametrize(
    "finish, reasons",
    [
        ("stop", ["stop", "eos", "eos_token", "end_turn", "STOP", "stop_sequence", "COMPLETE", "Stop "]),
        ("length", ["length", "max_tokens", "MAX_TOKENS", "model_length", "model_context_window_exceeded"]),
        ("failed", ["abort", "error", "cancelled", "insufficient_system_resource", "network_error", "OTHER"]),
        ("filtered", ["content_filter", "SAFETY", "RECITATION", "content_filter: PROHIBITED_CONTENT"]),
        ("filtered", ["sensitive", "refusal", "content-filter", "FinishReason.SPII"]),
        ("unknown", [None, "", "tool_calls", "something new", 3]),
    ],
)
def test_finish_reasons(finish: str, reasons: list[Any]) -> None:
    assert {reason: finish_of(reason) for reason in reasons} == dict.fromkeys(reasons, finish)


LENGTH = {
    "vLLM": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
    "vLLM, prompt": "The decoder prompt (length 8357) is longer than the maximum model length of 8192.",
    "vLLM, max_tokens": "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum",
    "SGLang": "The input (131123 tokens) is longer than the model's context length (131072 tokens).",
    "SGLang, both": "Requested token count exceeds the model's maximum context length of 4096 tokens.",
    "llama.cpp": "request (67311 tokens) exceeds the available context size (65536 tokens)",
    "TGI": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4031 `inputs`",
    "TGI, prompt": "Input validation error: `inputs` must have less than 1024 tokens. Given: 1500",
    "Gemini": "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
    "OpenAI": "max_tokens is too large: 50000. This model supports at most 16384 completion tokens",
    "OpenAI, prompt": "Input tokens exceed the configured limit of 272000 tokens.",
    "OpenAI, code": "Your input is not accepted context_length_exceeded",
    "Anthropic": "prompt is too long: 215000 tokens > 200000 maximum",
    "Anthropic, both": "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    "Anthropic, max_tokens": "max_tokens: 100000 > 64000, the maximum allowed number of output tokens",
    "Groq": "Please reduce the length of the messages or completion.",
    "Groq, max_tokens": "`max_tokens` must be less than or equal to `8192`",
    "Mistral": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
    "OpenRouter": "This endpoint's maximum context length is 131072 tokens. However, you requested",
    "xAI": "This model's maximum prompt length is 131072 but the request contains 537812 tokens",
    "DeepSeek": "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
    "Alibaba": "Range of input length should be [1, 30720]",
    "Bedrock": "Input is too long for requested model",
    "Ollama": "the input length exceeds the context length",
}


@pytest.mark.parametrize("server", LENGTH)
def test_a_prompt_that_is_too_long_is_recognised(server: str) -> None:
    assert server_answers.ABOUT_LENGTH.search(LENGTH[server])


@pytest.mark.parametrize(
    "reason",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'",
        "temperature must not be that",
        "Extra inputs are not permitted",
        "Unrecognized request argument supplied: top_k",
        "Input should be a valid string",
        "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 7000",
    ],
)
def test_other_refusals_are_not_about_length(reason: str) -> None:
    assert not server_answers.ABOUT_LENGTH.search(reason)


@pytest.mark.parametrize(
    "reason",
    [
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "deepinfra/model requires moderation on OpenInference. Your input was flagged for violence",
        "Output data may contain inappropriate content. data_inspection_failed",
    ],
)
def test_a_prompt_that_moderation_refuses_is_recognised(reason: str) -> None:
    assert server_answers.ABOUT_CONTENT.search(reason)


@pytest.mark.parametrize(
    "content, text, reasoning",
    [
        ("plain", "plain", None),
        (None, "", None),
        ([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}], "a b", None),
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "h"}]},
                {"type": "text", "text": "5"},
            ],
            "5",
            "h",
        ),
        ([{"type": "thinking", "thinking": "so "}, {"type": "reasoning", "text": "5"}], "", "so 5"),
        ([{"type": "output_text", "text": "c"}, "d", 7], "cd", None),
        ([], "", None),
        ({"text": "not a list"}, "", None),
    ],
)
def test_contents(content: Any, text: str, reasoning: str | None) -> None:
    (choice,) = read_answer({"choices": [{"message": {"content": content}}]}).choices
    assert (choice.text, choice.reasoning) == (text, reasoning)


@pytest.mark.parametrize("names", [("reasoning_content",), ("reasoning",), ("thinking",), REASONING_NAMES])
@pytest.mark.parametrize("content", ["5", None])
def test_reasoning_in_a_field_of_its_own_is_read_once(names: tuple[str, ...], content: str | None) -> None:
    message = {"content": content, **dict.fromkeys(names, "2 + 3 = 5")}
    (choice,) = read_answer({"choices": [{"message": message}]}).choices
    assert (choice.text, choice.reasoning) == (content or "", "2 + 3 = 5")


def test_tokens_of_reasoning_without_an_answer_count() -> None:
    choice = {"message": {"content": None, "reasoning": "2 + 3"}, "token_ids": []}
    answer = read_answer({"choices": [choice], "usage": {"completion_tokens": 0}})
    assert (answer.completion_tokens, answer.choices[0].num_tokens) == (None, None)


@pytest.mark.parametrize(
    "usage, counted",
    [
        ({"prompt_tokens": 10.0, "completion_tokens": 4.0}, (10, 4)),
        ({"prompt_tokens": "10", "completion_tokens": "4"}, (10, 4)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (None, None)),  # zeros for a text that is not empty
        ({"prompt_tokens": -1, "completion_tokens": True}, (None, None)),
        ({"prompt_tokens": float("inf"), "completion_tokens": [4]}, (None, None)),
        (None, (None, None)),
        ("10", (None, None)),
    ],
)
def test_counts(usage: Any, counted: tuple[int | None, int | None]) -> None:
    answer = read_answer({"choices": [{"text": "a b c d"}], "usage": usage})
    assert (answer.prompt_tokens, answer.completion_tokens) == counted


def test_no_tokens_of_an_empty_text_are_none() -> None:
    answer = read_answer({"choices": [{"text": "", "token_ids": []}], "usage": {"completion_tokens": 0}})
    assert (answer.completion_tokens, answer.choices[0].num_tokens) == (0, 0)


def test_choices_come_by_index_and_without_indices_as_they_are() -> None:
    ordered = [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]
    for choices in (
        ordered,
        [{"text": "a"}, {"text": "b"}],
        [{"index": None, "text": "a"}, {"index": 1, "text": "b"}],
    ):
        assert [choice.text for choice in read_answer({"choices": choices}).choices] == ["a", "b"]


@pytest.mark.parametrize(
    "value", [None, [], {}, {"choices": None}, {"choices": []}, {"choices": [None]}, "text"]
)
def test_an_answer_without_choices_is_none(value: Any) -> None:
    with pytest.raises(ValueError, match="no choices"):
        read_answer(value)


def test_an_error_in_a_choice_is_a_failure_even_after_a_part_of_the_text() -> None:
    choice = {
        "message": {"content": "The answer"},
        "finish_reason": "stop",
        "error": {"code": 502, "message": "gone"},
    }
    (read,) = read_answer({"choices": [choice]}).choices
    assert (read.finish, read.reason) == ("failed", "gone")


@pytest.mark.parametrize(
    "value, error",
    [
        ({"error": {"message": "Rate limit exceeded", "code": 429}}, (429, "Rate limit exceeded")),
        ({"error": "said with status 200"}, (None, "said with status 200")),
        ({"object": "error", "message": "busy", "code": 503}, (503, "busy")),
        ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, (None, "m rate_limit_exceeded")),
        ({"error": "cut off", "choices": [{"text": "a", "finish_reason": "stop"}]}, (None, "cut off")),
        ({"error": None, "choices": [{"text": "a"}]}, None),
        ({"choices": []}, None),
        ([1], None),
    ],
)
def test_errors_that_come_with_status_200(value: Any, error: Any) -> None:
    assert error_in(value) == error


@pytest.mark.parametrize(
    "content, text",
    [
        (rb'{"text": "a \ud83d b"}', "a \ufffd b"),
        (rb'{"text": "\ude00\ud83d"}', "\ufffd\ufffd"),
        (rb'{"text": "\ud83d\ude00"}', "\U0001f600"),
        (b'{"text": "a \xff b"}', "a \ufffd b"),
        ('{"text": "é"}'.encode(), "é"),
    ],
)
def test_half_characters_become_replacement_characters(content: bytes, text: str) -> None:
    value = read_json(content)
    assert value == {"text": text}
    json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize("content", [b"", b"<html></html>", b'{"a": '])
def test_what_is_not_json_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(content)


@pytest.mark.parametrize(
    "value, models",
    [
        ({"data": [{"id": "m", "root": "r", "max_model_len": 9}]}, [ServedModel("m", "r", 9)]),
        ([{"id": "m"}, {"id": "k"}], [ServedModel("m"), ServedModel("k")]),  # Together
        (
            {"data": [{"name": "x"}, None, {"id": 3}, {"id": "m", "max_model_len": "4096"}]},
            [ServedModel("m", None, 4096)],
        ),
        ({"data": None, "models": [{"id": "m", "root": 3, "max_model_len": 0}]}, [ServedModel("m")]),
        ({"data": []}, []),
        (["m"], [ServedModel("m")]),
    ],
)
def test_lists_of_models(value: Any, models: list[ServedModel]) -> None:
    assert read_models(value) == models


@pytest.mark.parametrize("value", [None, {"data": None}, {}, "text", {"data": {"id": "m"}}])
def test_what_is_not_a_list_of_models_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match="not a list"):
        read_models(value)
