"""What is found out about a server before the first request, and on the way."""

from contextlib import closing
from typing import Any

import pytest

from erprm_cli.engines.base import Chat, Completion, Request, SamplingParams
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine
from erprm_cli.errors import UserError
from tests.scripted_server import Fields, Reply, ScriptedServer, completed, limit, refusal, serving

pytestmark = pytest.mark.usefixtures("quick", "no_tokenizer")

PARAMS = SamplingParams(1.0, 1.0, 50)
CHAT = Chat((("user", "2 + 3?"),))


def complete(
    server: ScriptedServer, prompt: str | Chat = "p", n: int = 1, model: str = "m"
) -> list[Completion]:
    with closing(open_engine(EngineConfig(model=model, base_url=server.url))) as engine:
        found = list(engine.generate([Request("a", prompt, tuple(range(n)), 0)], PARAMS))
    assert all(isinstance(one, Completion) for one in found)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(
    "models",
    [
        Reply({"data": None}),
        Reply({"data": [{"name": "no id"}]}),
        Reply({"data": []}),
        Reply(b"<html>It works!</html>"),
        Reply({"detail": "Not Found"}, 404),
        Reply({}, 405),
        refusal("this key may not list models", 403),
        refusal("internal error", 500),
    ],
    ids=["null", "no ids", "empty", "html", "404", "405", "403", "500"],
)
def test_a_server_that_does_not_list_its_models_generates(
    models: Reply, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda _, fields: completed(fields)) as server:
        server.models = models
        assert len(complete(server, model="any")) == 1
    assert server.work[0]["model"] == "any"
    assert "note: cannot use the server's list of models" in capsys.readouterr().err


@pytest.mark.parametrize(
    "models, chosen",
    [
        ([{"id": "m"}], "m"),
        ({"data": [{"id": "served", "root": "m"}]}, "served"),
        ({"data": [{"id": "models/m"}]}, "models/m"),  # Gemini
        ({"models": [{"id": "served", "root": "m"}], "data": None}, "served"),
    ],
)
def test_the_model_is_found_in_lists_of_any_form(models: Any, chosen: str) -> None:
    with serving(lambda _, fields: completed(fields)) as server:
        server.models = Reply(models)
        complete(server)
    assert server.work[0]["model"] == chosen


def test_of_many_models_the_nearest_are_named() -> None:
    names = [f"vendor/model-{number}" for number in range(400)] + ["qwen/qwen2.5-math-7b-instruct"]
    with serving(lambda _, fields: completed(fields)) as server:
        server.models = Reply({"data": [{"id": name} for name in names]})
        with pytest.raises(
            UserError, match="serves 401 models.*nearest names: qwen/qwen2.5-math-7b-in"
        ) as caught:
            complete(server, model="Qwen/Qwen2.5-Math-7B-Instruct")
    assert str(caught.value).count("vendor/") == 4


def test_the_newer_name_of_the_limit_is_used_where_the_old_one_is_refused() -> None:
    reason = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
    )

    def say(_: str, fields: Fields) -> Reply:
        return refusal(reason, param="max_tokens") if "max_tokens" in fields else completed(fields)

    with serving(say) as server:
        assert len(complete(server, n=3)) == 3
    assert [(fields.get("max_tokens"), limit(fields)) for fields in server.work] == [(None, 50)]
    assert sum("max_tokens" in fields for fields in server.asked) == 1  # it is remembered


@pytest.mark.parametrize("prompt", ["p", CHAT])
@pytest.mark.parametrize(
    "unknown", [{"top_k", "min_p", "repetition_penalty", "return_token_ids"}, {"top_k", "seed", "n"}]
)
def test_optional_fields_that_are_refused_without_a_name_are_left_out(
    prompt: str | Chat, unknown: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def say(path: str, fields: Fields) -> Reply:
        if isinstance(prompt, Chat) and path == "/completions":
            return Reply({"detail": "Not Found"}, 404)
        return (
            refusal("Extra inputs are not permitted", 422) if unknown & fields.keys() else completed(fields)
        )

    with serving(say) as server:
        assert len(complete(server, prompt, n=2)) == 2
    assert len(server.work) == 2 and not any(unknown & fields.keys() for fields in server.work)
    assert ("will not be reproducible" in capsys.readouterr().err) == ("seed" in unknown)


def test_a_refusal_that_is_not_about_optional_fields_is_told_as_it_was() -> None:
    with serving(lambda *_: refusal("no such temperature")) as server:
        with pytest.raises(UserError, match="refused the request: status 400: no such temperature"):
            complete(server)


@pytest.mark.parametrize("path", ["/api", "/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    "status, page", [(404, Reply({"detail": "Not Found"}, 404)), (405, Reply(b"<html>"))]
)
def test_a_url_without_any_endpoint_should_end_in_v1(path: str, status: int, page: Reply) -> None:
    with serving(lambda *_: Reply({"detail": "Not here"}, status)) as server:
        server.models = page
        server.url += path
        with pytest.raises(
            UserError, match=r"has neither /models nor .*should end in /v1, such as http://.*/v1$"
        ):
            complete(server)


def test_an_unknown_model_is_not_a_missing_endpoint() -> None:
    with serving(lambda *_: refusal("The model `m` does not exist.", 404)) as server:
        server.models = Reply({}, 404)
        with pytest.raises(UserError, match="status 404: The model `m` does not exist"):
            complete(server)


def test_token_counts_that_are_zero_are_unknown() -> None:
    def say(_: str, fields: Fields) -> Reply:
        return completed(fields | {"return_token_ids": False}, prompt_tokens=0, completion_tokens=0)

    with serving(say) as server, pytest.raises(UserError, match="does not count tokens"):
        complete(server)
