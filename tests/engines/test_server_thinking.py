"""What a server is told about thinking, and what is made of the reasoning that it sends."""

from contextlib import closing
from typing import Any

import pytest

from erprm_cli.answers.grader import Grader
from erprm_cli.engines.base import Chat, Completion, Request, SamplingParams
from erprm_cli.engines.open import open_engine
from erprm_cli.policy.sampling import SamplingSettings, sample_solutions
from erprm_cli.policy.templates import load_template
from erprm_cli.rows.row import Row
from tests.engines.server_runs import config, only_completions
from tests.scripted_server import Fields, Reply, ScriptedServer, completed, limit, refusal, serving

SETTINGS = SamplingSettings("m", None, 1.0, 1.0, 50, 0, "x")
PROBLEM = {"id": "a", "problem": "2 + 3?", "answer": "5"}


def sampled(server: ScriptedServer, template: str, n: int = 1, **changes: Any) -> list[Row]:
    with closing(open_engine(config(server, **changes))) as engine, Grader() as grader:
        return list(sample_solutions([PROBLEM], engine, load_template(template), SETTINGS, n, grader))


def thinking(fields: Fields, content: str | None, **named: str) -> Reply:
    reply = completed(fields, "So it is five. " + (content or ""))
    for choice in reply.body["choices"]:
        choice["message"] = {"content": content} | named
    return reply


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("template", ["qwen3", "gpt-oss", "gsm8k-chat"])
def test_reasoning_in_a_field_is_a_field_of_the_row(name: str, template: str) -> None:
    with serving(lambda _, fields: thinking(fields, r"\boxed{5}", **{name: "So it is five."})) as server:
        rows = sampled(server, template, 3)
    for row in rows:
        assert (row["reasoning"], row["solution"], row["reward"]) == ("So it is five.", r"\boxed{5}", 1.0)
        assert (row["num_tokens"], row["finish_reason"]) == (5, "stop")


def test_reasoning_without_an_answer_is_unfinished() -> None:
    with serving(lambda _, fields: thinking(fields, None, reasoning=r"So it is \boxed{5}.")) as server:
        (row,) = sampled(server, "qwen3")
    assert (row["reasoning"], row["solution"]) == (r"So it is \boxed{5}.", "")
    assert (row["prediction"], row["reward"], row["finish_reason"]) == (None, 0.0, "length")


@pytest.mark.parametrize(
    ("template", "content"),
    [
        ("qwen3", "<think>\nSo.\n</think>\n\n\\boxed{5}"),
        ("deepseek-r1", "\nSo.\n</think>\n\n\\boxed{5}"),
        (
            "gpt-oss",
            "<|channel|>analysis<|message|>\nSo.\n<|end|><|start|>assistant<|channel|>final<|message|>"
            "\n\n\\boxed{5}",
        ),
    ],
)
def test_reasoning_in_the_content_is_found_by_its_marks(template: str, content: str) -> None:
    with serving(lambda _, fields: thinking(fields, content)) as server:
        (row,) = sampled(server, template)
    assert (row["reasoning"], row["solution"], row["reward"]) == ("\nSo.\n", "\n\n\\boxed{5}", 1.0)


def test_options_of_the_chat_template_are_sent() -> None:
    with serving(lambda _, fields: thinking(fields, "5", reasoning="So.")) as server:
        sampled(server, "qwen3")
        sampled(server, "gpt-oss")
        sampled(server, "gsm8k-chat")
    qwen, gpt, other = server.work
    assert qwen["chat_template_kwargs"] == {"enable_thinking": True} and "reasoning_effort" not in qwen
    assert gpt["chat_template_kwargs"] == {"reasoning_effort": "medium"}
    assert gpt["reasoning_effort"] == "medium" and gpt["skip_special_tokens"] is False
    assert not {"chat_template_kwargs", "reasoning_effort", "skip_special_tokens"} & {*other}
    assert "skip_special_tokens" not in qwen


@pytest.mark.parametrize(
    ("field", "meaning"),
    [
        ("chat_template_kwargs", "the model's chat template does not get its options"),
        ("reasoning_effort", "the model's own effort of reasoning is used"),
        ("skip_special_tokens", "the marks of the reasoning may be missing"),
    ],
)
def test_what_a_server_refuses_is_left_out_with_a_warning(
    field: str, meaning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(_: str, fields: Fields) -> Reply:
        if field in fields:
            return refusal(f"Unrecognized request argument supplied: {field}")
        return thinking(fields, r"\boxed{5}", reasoning="So.")

    with serving(say) as server:
        (row,) = sampled(server, "gpt-oss")
    assert row["reward"] == 1.0 and field not in server.work[-1]
    assert f"refuses {field}" in (warning := capsys.readouterr().err) and meaning in warning


def test_tokens_of_reasoning_and_answer_are_counted_together() -> None:
    """The server reports none per choice, so the tokenizer counts."""

    def say(_: str, fields: Fields) -> Reply:
        if limit(fields) == 1:
            return completed(fields)
        reply = thinking(fields | {"return_token_ids": False}, "Step 1: 2", reasoning="Step 1: 2 + 3")
        del reply.body["usage"]
        return reply

    with serving(say) as server, closing(open_engine(config(server))) as engine:
        from erprm_cli.models.loading import load_tokenizer

        engine.tokenizer = load_tokenizer("tiny")
        request = Request("a", Chat((("user", "hi"),)), (0,), 0)
        (found,) = only_completions(engine.generate([request], SamplingParams(1.0, 1.0, 50)))
    tokens = len(engine.tokenizer("Step 1: 2 + 3Step 1: 2", add_special_tokens=False).input_ids)
    assert isinstance(found, Completion) and found.num_tokens == tokens + 1  # the end
