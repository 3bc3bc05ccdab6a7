"""Slow, vanishing and hostile clients: each is refused or dropped, and the others are served."""

import json
import time
from collections.abc import Iterator

import httpx2
import pytest

from erprm_cli.serving import guard
from tests.serving.servers import (
    CLIENT,
    SlowScorer,
    connected,
    message,
    metric,
    post,
    received,
    serving,
    until,
)

ROW = {"problem": "Tom has 2 apples?", "steps": ["Step 1: Tom has 2 more."]}
BODY = json.dumps({"rows": [ROW]}).encode()
KEY = "secret"


def head(length: int | str, *headers: str) -> bytes:
    """Return the headers of a request to /v1/score with a body of `length`."""
    size = "Transfer-Encoding: chunked" if length == "chunked" else f"Content-Length: {length}"
    lines = ["POST /v1/score HTTP/1.1", "Host: test", "Content-Type: application/json", size, *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def refused(answer: str, status: int) -> str:
    """Return the message in the raw answer of a refusal, after which the connection is closed."""
    assert answer.startswith(f"HTTP/1.1 {status} ") and "connection: close" in answer
    found: str = json.loads(answer.partition("\r\n\r\n")[2])["error"]["message"]
    return found


def works(url: str) -> bool:
    return post(url, "/v1/score", {"rows": [ROW]}).is_success


@pytest.fixture(scope="module")
def small(loaded: SlowScorer) -> Iterator[str]:
    """A server that takes bodies of 2 kB which arrive within half a second."""
    with serving(loaded, max_body_mb=0.002, timeout_s=0.5) as url:
        yield url


def test_a_body_that_does_not_arrive_in_time_is_refused(small: str) -> None:
    with connected(small, head(len(BODY)) + BODY[:-1]) as slow:
        assert works(small)
        assert refused(received(slow), 408) == "the body did not arrive within 0.5 s"


def test_a_body_that_arrives_byte_by_byte_gets_no_more_time(small: str) -> None:
    with connected(small, head(1_000)) as slow:
        begin = time.monotonic()
        while time.monotonic() - begin < 0.4:
            slow.sendall(b" ")
            time.sleep(0.05)
        assert refused(received(slow), 408)


@pytest.mark.parametrize("kind", ["declared", "chunked"])
def test_a_body_that_is_too_large_is_refused_with_the_limit(small: str, kind: str) -> None:
    content = b" " * 5_000
    sent = head(len(content)) + content
    if kind == "chunked":
        sent = (
            head("chunked") + b"".join(b"64\r\n" + content[:100] + b"\r\n" for _ in range(50)) + b"0\r\n\r\n"
        )
    with connected(small, sent) as client:
        expected = "the body is larger than 0.002 MB (--max-body-mb); send it in parts"
        assert refused(received(client), 413) == expected
    assert works(small)


def test_a_client_that_asks_first_does_not_send_a_body_that_is_too_large(small: str) -> None:
    with connected(small, head(5_000, "Expect: 100-continue")) as client:
        assert refused(received(client), 413)


def test_a_body_without_end_is_cut_off(small: str) -> None:
    with connected(small, head(10**12)) as client:
        with pytest.raises(OSError):  # the server closes the connection
            for _ in range(100_000):
                client.sendall(b" " * 10_000)
    assert works(small)


def test_bodies_of_many_requests_together_are_limited(
    scorer: SlowScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MAX_HELD_BODIES", 2)
    with serving(scorer, max_body_mb=0.002) as url:
        slow = [connected(url, head(2_000) + b" " * 1_500) for _ in range(3)]
        assert refused(received(slow[2]), 503) == "too many large requests at a time; try again later"
        for client in slow:
            client.close()
        until(lambda: works(url))


def test_connections_without_a_request_are_closed(
    scorer: SlowScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "HEADERS_TIMEOUT_S", 0.5)
    with serving(scorer) as url:
        with connected(url) as silent, connected(url, b"POST /v1/score HTTP/1.1\r\nX: ") as dribbling:
            begin = time.monotonic()
            while time.monotonic() - begin < 0.3:
                dribbling.sendall(b"x")
                time.sleep(0.05)
            assert works(url)
            assert received(silent) == received(dribbling) == ""
        with httpx2.Client() as client:  # a connection that is used again has the time once more
            for _ in range(3):
                assert client.get(f"{url}/health").is_success
                time.sleep(0.3)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(100),  # TLS
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        head(10) + b"{}" + head(-1),
        head("99999999999999999999999"),
        head(2, "Content-Length: 3") + b"{}",
        head("chunked") + b"zz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        head("chunked").replace(b"POST", b"HEAD") + b"zz\r\n",
    ],
)
def test_what_is_not_http_ends_its_connection_only(
    small: str, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(small, sent) as hostile:
        answer = received(hostile)
    assert answer == "" or answer.startswith("HTTP/1.1 4")
    assert not [record for record in caplog.records if record.exc_info]  # no traceback
    assert works(small)


def test_the_solutions_of_a_client_that_vanishes_leave_the_queue(scorer: SlowScorer) -> None:
    scorer.pause_s = 0.3
    with serving(scorer) as url:
        before = metric(url, "erprm_solutions_total")
        content = json.dumps({"rows": [ROW] * 2_000}).encode()
        with connected(url, head(len(content)) + content):
            until(lambda: metric(url, "erprm_accepted") == 2_000)
        until(lambda: metric(url, "erprm_accepted") == 0)
        assert works(url)
        assert metric(url, "erprm_solutions_total") - before < 2_000


def test_what_waits_too_long_is_told_to_come_again(scorer: SlowScorer) -> None:
    scorer.pause_s = 1.0
    with serving(scorer, timeout_s=0.4) as url:
        answer = post(url, "/v1/score", {"rows": [ROW]})
        assert message(answer, 503) == "not scored within 0.4 s; the server has too much to do"
        assert answer.headers["retry-after"] == "1"


def test_a_key_is_needed_once_one_is_set(scorer: SlowScorer) -> None:
    with serving(scorer, key=KEY) as url:
        expected = "send the key of this server as the header 'Authorization: Bearer KEY'"
        for given in ({}, {"authorization": "Bearer secre"}, {"authorization": f"Basic {KEY}"}):
            for path in ("/v1/score", "/get_reward", "/pooling", "/metrics", "/v1/prm", "/nothing"):
                answer = post(url, path, {}, headers=given)
                assert message(answer, 401) == expected
                assert answer.headers["www-authenticate"] == "Bearer"
        right = {"authorization": f"Bearer {KEY}"}
        assert post(url, "/v1/score", {"rows": [ROW]}, headers=right).is_success
        assert CLIENT.get(f"{url}/health").is_success and CLIENT.get(f"{url}/openapi.json").is_success
