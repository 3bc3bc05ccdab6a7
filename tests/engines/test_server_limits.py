"""Answers without end, too slow, too large or too deep: one line, and bounded time and memory."""

import gzip
import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import anyio
import pytest

from erprm_cli.engines import server_client
from erprm_cli.engines.base import Request
from erprm_cli.engines.open import open_engine
from erprm_cli.errors import EngineError, UserError
from tests.engines.server_runs import PARAMS, complete, config
from tests.scripted_server import Fields, Reply, completed, serving

pytestmark = pytest.mark.usefixtures("quick", "no_tokenizer")


def endless(piece: bytes, pause_s: float = 0.0) -> Iterator[bytes]:
    while True:
        yield piece
        time.sleep(pause_s)


def silent() -> Iterator[bytes]:
    time.sleep(1)
    yield b""


def error_of(reply: Callable[[], Reply]) -> str:
    """Return how a run ends whose requests, but for those of the start, are answered with `reply`."""

    def say(_: str, fields: Fields) -> Reply:
        return completed(fields) if fields["max_tokens"] == 1 else reply()

    with serving(say) as server, closing(open_engine(config(server))) as engine:
        (failure,) = engine.generate([Request("a", "prompt", (0,), 0)], PARAMS)
    assert isinstance(failure.error, EngineError)  # type: ignore[union-attr]
    return str(failure.error)  # type: ignore[union-attr]


def test_an_answer_without_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_client, "MAX_ANSWER_BYTES", 1 << 20)
    said = error_of(lambda: Reply(endless(b"[" * 65536)))
    assert "failed 6 times in a row; last error: the answer is larger than 1 MB" in said


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_comes_byte_by_byte_is_reported(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_client, "BODY_TIMEOUT_S", 0.2)
    begin = time.monotonic()
    said = error_of(lambda: Reply(endless(b"[", 0.05), status))
    assert "last error: the answer is not complete after 0.2 s" in said
    assert time.monotonic() - begin < 20


def test_a_server_that_never_begins_to_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda *_: Reply(endless(b"\n", 0.05))) as server:
        client = server_client.ServerClient(server.url, 1, read_timeout_s=0.3)

        async def ask() -> None:
            async with client:
                await client.complete("/completions", {"max_tokens": 1})

        monkeypatch.setattr(server_client, "RETRIES", 1)
        with pytest.raises(EngineError, match="the answer does not begin within 0.3 s"):
            anyio.run(ask)


@pytest.mark.parametrize("reply", ["line breaks", "nothing"])
def test_what_a_server_says_about_itself_waits_for_nothing(
    reply: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_client, "ABOUT_TIMEOUT_S", 0.3)

    with serving(lambda *_: Reply("")) as server:
        server.models = Reply(endless(b"\n", 0.05)) if reply == "line breaks" else Reply(silent())
        client = server_client.ServerClient(server.url, 1)

        async def ask() -> None:
            async with client:
                await client.models()

        with pytest.raises(EngineError, match=r"failed 1 times in a row; last error: .* 0.3 s"):
            anyio.run(ask)


def test_line_breaks_before_an_answer_keep_the_connection_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_client, "BODY_TIMEOUT_S", 0.5)

    def slow(fields: Fields) -> Iterator[bytes]:
        for _ in range(8):
            time.sleep(0.1)
            yield b"\n"
        yield json.dumps(completed(fields).body).encode()

    with serving(lambda _, fields: Reply(slow(fields))) as server:
        assert complete(server)[0].text == "The answer is: 5"


def test_a_compressed_answer_is_read_and_a_bomb_is_not() -> None:
    def say(_: str, fields: Fields) -> Reply:
        body = gzip.compress(json.dumps(completed(fields).body).encode())
        return Reply(body, headers={"Content-Encoding": "gzip"})

    with serving(say) as server:
        assert complete(server)[0].text == "The answer is: 5"
    bomb = gzip.compress(bytes(1 << 28))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = error_of(lambda: Reply(bomb, headers={"Content-Encoding": "gzip"}))
    assert "the answer is larger than 64 MB" in said
    said = error_of(lambda: Reply(gzip.compress(bomb), headers={"Content-Encoding": "gzip, gzip"}))
    assert "the answer has an unknown encoding: gzip, gzip" in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


DEEP: list[Any] = []
for _ in range(900):
    DEEP = [DEEP]
HUGE = 10**300

ODD: dict[str, Any] = {
    "deep": b"[" * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "deep choices": {"choices": DEEP},
    "a deep text": {"choices": [{"message": {"content": [{"type": "text", "text": DEEP}]}}]},
    "deep reasoning": {"choices": [{"message": {"reasoning": DEEP, "content": "5"}}]},
    "choices of nothing": {"choices": [None, 3, "x", []]},
    "an error of all types": {"error": {"message": DEEP, "code": HUGE}},
    "no text": "\x1b[2J",
    "numbers": 3,
}


@pytest.mark.parametrize("name", ODD)
def test_odd_answers_are_reported_in_one_line(name: str) -> None:
    said = error_of(lambda: Reply(ODD[name]))
    assert "last error: " in said and said.isprintable() and len(said) < 1000


def test_counts_that_cannot_be_are_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    def say(_: str, fields: Fields) -> Reply:
        reply = completed(fields)
        reply.body["usage"] = {"prompt_tokens": HUGE, "completion_tokens": 7.0}
        for choice in reply.body["choices"]:
            choice["index"] = HUGE
        return reply

    with serving(say) as server:
        server.models = Reply({"data": [{"id": "m", "max_model_len": HUGE}]})
        (found,) = complete(server)
    assert found.num_tokens == 4


def test_a_list_of_very_many_models_is_searched_soon() -> None:
    with serving(lambda _, fields: completed(fields)) as server:
        server.models = Reply({"data": [{"id": f"model {number} " * 30} for number in range(30_000)]})
        begin = time.monotonic()
        with pytest.raises(UserError, match="serves 10,000 models") as caught:
            complete(server)
    assert time.monotonic() - begin < 30 and len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "nan"},
        {"Retry-After": "Mon, 99 Foo 99999 99:99:99 GMT"},
        {"Retry-After": " "},
        {"Retry-After": "1e-9"},
        {"Content-Type": "application/json; charset=zlib"},
        {"Content-Type": "\xff\xfe"},
        {"Set-Cookie": "a" * 60_000},
        {"X" * 70_000: "1"},
        {"Content-Length": "99999999999999999999"},
        {"Location": "http://[", "Refresh": "0"},
    ],
    ids=lambda headers: next(iter(headers))[:20] + " " + next(iter(headers.values()))[:8],
)
def test_hostile_headers_are_reported_in_one_line(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_client, "BODY_TIMEOUT_S", 0.2)
    said = error_of(lambda: Reply(b"\x1b]0;owned\x07 not JSON", 500, headers))
    assert said.isprintable() and len(said) < 1000
