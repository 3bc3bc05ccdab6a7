"""HTTP with a server: retries, redirects and errors that come with status 200."""

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import anyio
import pytest

from erprm_cli.engines.server_answers import Answer
from erprm_cli.engines.server_client import (
    RETRIES,
    RETRIES_OF_ONE,
    Refused,
    RequestFailed,
    ServerClient,
    suggested_url,
)
from erprm_cli.errors import EngineError, UsageError
from tests.scripted_server import Fields, Reply, ScriptedServer, completed, refusal, serving

pytestmark = pytest.mark.usefixtures("quick")

KEY = "sk-canary-0452"


def complete(
    server: ScriptedServer, *prompts: str, report: Callable[[str], object] = lambda _: None
) -> dict[str, Answer | Exception]:
    """Return what a client makes of the answer to each prompt; all are asked for at the same time."""
    found: dict[str, Answer | Exception] = {}

    async def ask(client: ServerClient, prompt: str) -> None:
        try:
            found[prompt] = await client.complete("/completions", {"prompt": prompt, "max_tokens": 9})
        except (EngineError, Refused) as error:
            found[prompt] = error

    async def run() -> None:
        async with ServerClient(server.url, 8, report=report) as client, anyio.create_task_group() as group:
            for prompt in prompts:
                group.start_soon(ask, client, prompt)

    anyio.run(run)
    return found


def redirecting(status: int, location: Callable[[ScriptedServer], str]) -> Any:
    """Return the script of a server that redirects /completions to `location` and completes elsewhere."""

    def say(path: str, fields: Fields) -> Reply:
        if path == "/completions":
            return Reply({}, status, {"Location": location(servers[0])})
        return completed(fields)

    servers: list[ScriptedServer] = []
    say.servers = servers  # type: ignore[attr-defined]
    return say


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("location", ["/v1/elsewhere/completions", "{url}/v1/elsewhere/completions", "else"])
def test_a_redirect_on_the_same_origin_is_followed_with_the_request(
    status: int, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    say = redirecting(status, lambda server: location.format(url=server.url))
    with serving(say) as server:
        say.servers.append(server)
        answer = complete(server, "p")["p"]
    assert isinstance(answer, Answer) and answer.choices[0].text == "The answer is: 5"
    assert server.asked == [{"prompt": "p", "max_tokens": 9}] * 2
    assert server.headers[1]["authorization"] == f"Bearer {KEY}"


def test_a_redirect_to_another_origin_is_told_and_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(lambda _, fields: completed(fields)) as other:
        say = redirecting(307, lambda _: f"{other.url}/v1/completions?key={KEY}")
        with serving(say) as server:
            say.servers.append(server)
            refused = complete(server, "p")["p"]
        assert other.asked == []
    assert isinstance(refused, Refused)
    assert f"redirects to {other.url}/v1/completions" in str(refused)
    assert f"use --base-url {other.url}/v1" in str(refused) and KEY not in str(refused)


@pytest.mark.parametrize("location", ["/v1/completions", "http://[", ""])
def test_a_redirect_that_leads_nowhere_is_refused(location: str) -> None:
    say = redirecting(307, lambda _: location)
    with serving(say) as server:
        say.servers.append(server)
        assert isinstance(complete(server, "p")["p"], Refused)


def test_an_error_with_status_200_is_told_in_the_servers_words() -> None:
    body = {"error": {"message": "Rate limit exceeded", "code": 429}}
    with serving(lambda *_: Reply(body)) as server:
        error = complete(server, "p")["p"]
    assert isinstance(error, EngineError) and len(server.asked) == RETRIES + 1
    assert "last error: status 429: Rate limit exceeded" in str(error)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 503, 529])
def test_an_overload_is_not_laid_on_the_request(status: int) -> None:
    with serving(lambda *_: refusal("come back later", status)) as server:
        error = complete(server, "p")["p"]
    assert type(error) is EngineError and len(server.asked) == RETRIES + 1


@pytest.mark.parametrize("status", [400, 402])
def test_a_refusal_with_status_200_is_a_refusal(status: int) -> None:
    with serving(lambda *_: Reply({"error": {"message": "no", "code": status}})) as server:
        refused = complete(server, "p")["p"]
    assert isinstance(refused, Refused) and (refused.status, len(server.asked)) == (status, 1)


@pytest.mark.parametrize(
    "failure, reason",
    [
        (Reply(b"<!DOCTYPE html><p>Sign in"), "invalid answer: no choices in it: an HTML page"),
        (Reply({"success": False, "errors": [{"message": "no worker"}]}), "no choices in it: no worker"),
        (Reply({"choices": None}), "no choices in it"),
        (Reply(b"<html>Bad Gateway", 502), "status 502: an HTML page"),
        (Reply(b"Bad Gateway", 502), "status 502: Bad Gateway"),
    ],
)
def test_answers_that_are_none_are_told(failure: Reply, reason: str) -> None:
    with serving(lambda *_: failure) as server:
        error = complete(server, "p")["p"]
    assert isinstance(error, RequestFailed) and reason in str(error)


@pytest.mark.slow
def test_one_request_is_given_up_while_others_are_answered() -> None:
    """It is tried oftener than on a server that answers nothing, but not for ever."""

    def say(_: str, fields: Fields) -> Reply:
        return refusal("no luck", 500) if fields["prompt"] == "bad" else completed(fields)

    async def run(server: ScriptedServer) -> None:
        async with ServerClient(server.url, 8) as client, anyio.create_task_group() as group:

            async def others() -> None:
                while True:
                    await client.complete("/completions", {"prompt": "good"})
                    await anyio.sleep(0.005)

            group.start_soon(others)
            with pytest.raises(
                RequestFailed, match="failed 11 times in a row; last error: status 500: no luck"
            ):
                await client.complete("/completions", {"prompt": "bad"})
            group.cancel_scope.cancel()

    with serving(say) as server:
        anyio.run(run, server)
    assert [fields["prompt"] for fields in server.asked].count("bad") == RETRIES_OF_ONE + 1


def test_a_request_that_fails_after_the_others_are_done_is_given_up() -> None:
    def say(_: str, fields: Fields) -> Reply:
        return refusal("no luck", 500) if fields["prompt"] == "bad" else completed(fields)

    with serving(say) as server:
        found = complete(server, "bad", "a", "b")
    assert isinstance(found["bad"], RequestFailed)
    assert isinstance(found["a"], Answer) and isinstance(found["b"], Answer)


def test_retries_are_reported_but_not_each() -> None:
    left = count(3, -1)
    lock = threading.Lock()
    said: list[str] = []

    def say(_: str, fields: Fields) -> Reply:
        with lock:
            return refusal("out of order", 500) if next(left) > 0 else completed(fields)

    with serving(say) as server:
        complete(server, "p", report=said.append)
    (line,) = said
    assert line.startswith(
        "attempt 1 failed (status 500: out of order BadRequestError); trying again in 0.0 s"
    )


def test_the_url_that_is_meant() -> None:
    for url in (
        "http://h/v1",
        "http://h/v1/chat/completions",
        "http://h/v1/completions",
        "http://h/v1/models",
    ):
        assert suggested_url(url) == "http://h/v1"
    assert suggested_url("http://h/openai") == "http://h/openai/v1"


def test_a_server_that_asks_for_a_long_wait_is_given_up() -> None:
    with serving(lambda *_: Reply({}, 429, {"Retry-After": "99999"})) as server:
        found = complete(server, "a")["a"]
    assert isinstance(found, EngineError)
    assert f"{server.url}/v1 asks for a retry in 99,999 s only (" in str(found)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://host:port", "--base-url 'http://host:port': Invalid port: 'port'"),
        ("ftp://host", "--base-url 'ftp://host' is not a URL such as"),
        ("http://me:secret@host", "--base-url contains a password; put a key into ERPRM_API_KEY instead"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        ServerClient(url, 1)
