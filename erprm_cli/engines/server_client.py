"""HTTP with a server that speaks OpenAI's API: messages, key, URL, and retries of failures that may pass.

Why not stamina or openai's client: which failures pass, the cap on Retry-After and "give up only if no other
request was answered meanwhile" would stay our own, so neither saves a line; stamina also logs to stderr.
"""

import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self, TypeVar

import anyio
import httpx2

from erprm_cli.engines.server_answers import (
    Answer,
    ServedModel,
    error_in,
    explanation,
    read_answer,
    read_json,
    read_models,
)
from erprm_cli.errors import EngineError, UsageError, UserError

KEY_NAMES = ("ERPRM_API_KEY", "OPENAI_API_KEY")
OVERLOADED_STATUS = (408, 409, 425, 429, 503, 529)  # about the server, whatever the request; retried like 5xx
RETRIES = 5  # of a request, if the server answers nothing else meanwhile
RETRIES_OF_ONE = 10  # of a request that fails while the server answers others
BACKOFF_S = 0.5  # doubled each time
MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 600.0
REPORT_INTERVAL_S = 30.0  # between two reports of retries
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 3600.0  # a completion may wait in a long queue, and a retry would only lengthen the queue
ABOUT_TIMEOUT_S = 60.0  # until the answer to a GET begins: what a server says about itself waits for nothing
BODY_TIMEOUT_S = 60.0  # for all of an answer, from its first byte: servers send it when it is complete
MAX_ANSWER_BYTES = 64 << 20  # 64 completions of 4,096 tokens with their ids take 3 MB
ENCODINGS = ("identity", "gzip", "deflate")  # one at most: each grows up to a thousandfold when decoded
MAX_REDIRECTS = 5
MAX_REASON = 300  # characters of a server's message that are shown
ENDPOINTS = ("/chat/completions", "/completions", "/models", "/pooling", "/score", "/prm")
BESIDE_V1 = ("/pooling",)  # vLLM has these endpoints beside /v1, not in it

T = TypeVar("T")


class Refused(Exception):
    """The server answered that it will not do what was asked (a 4xx); asking again does not help."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Failed(Exception):
    """A failure that may pass.

    `retry_after_s` is what the server asked for; 0 if it did not. `is_overload` is true if the failure is
    about the server (it cannot be reached, or has too much to do) and not about what was asked.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0, *, is_overload: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s, self.is_overload = reason, retry_after_s, is_overload


class RequestFailed(EngineError):
    """One request kept failing; the server may well answer others. `reason` is the last failure's."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ServerClient:
    """Connections to one server; an asynchronous context manager that closes them."""

    def __init__(
        self,
        base_url: str,
        max_connections: int,
        read_timeout_s: float | None = None,
        report: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Prepare to connect; UsageError for a URL or a key that cannot be used.

        The answer to a POST must begin within `read_timeout_s`, by default READ_TIMEOUT_S. `report` is called
        with a message when something is asked again, at most every REPORT_INTERVAL_S.
        """
        self.url = _checked_url(base_url)
        self._key = _api_key()
        self._report = report
        self._last_report = -REPORT_INTERVAL_S
        self._last_answer = 0.0  # time of the server's last answer to any request
        self._read_timeout_s = read_timeout_s or READ_TIMEOUT_S
        self._http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(self._read_timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._http.__aexit__(*exception)

    async def models(self) -> list[ServedModel]:
        """Return the models that the server lists. Only overloads are retried; see `ask` for errors."""
        return await self.get("/models", read_models)

    async def get(self, path: str, read: Callable[[Any], T]) -> T:
        """Return what `read` makes of the answer at an endpoint. Only overloads are retried; see `ask`."""
        return await self._exchange("GET", path, None, read, retries_of_one=0)

    async def complete(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Return the completions that answer `body` at an endpoint; see `ask`."""
        return await self.ask(path, body, read_answer)

    async def ask(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        """Return what `read` makes of the answer to `body` at an endpoint (`path` is what follows /v1).

        An answer for which `read` raises ValueError is a failure, and asked for again. Raises Refused for a
        4xx, RequestFailed if this request keeps failing, EngineError if the server cannot be reached or has
        too much to do.
        """
        return await self._exchange("POST", path, body, read)

    async def pause(self, failures: int, reason: str, wait_s: float = 0.0) -> None:
        """Wait before a request that failed `failures` times is sent again; `wait_s` is the server's."""
        wait_s = wait_s or min(BACKOFF_S * 2.0 ** (failures - 1), MAX_BACKOFF_S) * random.uniform(0.8, 1.2)
        now = time.monotonic()
        if now - self._last_report >= REPORT_INTERVAL_S:
            self._last_report = now
            self._report(
                f"attempt {failures} failed ({self.cleaned(reason)}); trying again in {wait_s:.1f} s"
            )
        await anyio.sleep(wait_s)

    def error(self, refusal: Refused) -> UserError:
        """Return the error that reports a refusal, with a remedy where one is known."""
        remedy = ""
        if refusal.status in (401, 403):
            remedy = f"; the key is read from {' or '.join(KEY_NAMES)}" + ("" if self._key else " (not set)")
        return UserError(f"{self.url} refused the request: {refusal.reason}{remedy}")

    async def _exchange(
        self,
        method: str,
        path: str,
        body: Any,
        read: Callable[[Any], T],
        retries_of_one: int = RETRIES_OF_ONE,
    ) -> T:
        """Return what `read` makes of the server's answer, with retries while the server fails.

        Gives up after `RETRIES` retries without an answer to any request. While others are answered, an
        overload is retried without end, and another failure `retries_of_one` times.
        """
        failures = 0
        last_failures: deque[float] = deque(maxlen=RETRIES + 1)  # their times
        while True:
            try:
                answer = await self._attempt(method, path, body, read)
            except Failed as error:
                failure = error
            else:
                self._last_answer = time.monotonic()
                return answer
            failures += 1
            last_failures.append(time.monotonic())
            wait_s, reason = failure.retry_after_s, failure.reason
            if wait_s > MAX_RETRY_AFTER_S:
                raise EngineError(f"{self.url} asks for a retry in {wait_s:,.0f} s only ({reason})")
            is_silent = failures > RETRIES and self._last_answer < last_failures[0]
            if is_silent or (failures > retries_of_one and not failure.is_overload):
                message = f"{self.url} failed {failures} times in a row; last error: {reason}"
                raise EngineError(message) if failure.is_overload else RequestFailed(message, reason)
            await self.pause(failures, reason, wait_s)

    async def _attempt(self, method: str, path: str, body: Any, read: Callable[[Any], T]) -> T:
        """Return the server's answer to one request; Failed if a retry may help, Refused if not."""
        try:
            response, content = await self._send(method, path, body)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            reason = self.cleaned(f"{type(error).__name__} {error}".strip())
            is_absent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise Failed(reason, is_overload=is_absent) from None
        status: int | None = response.status_code
        try:
            value = read_json(content)
            said, error_answer = explanation(value), error_in(value)
        except (ValueError, RecursionError):
            value, said, error_answer = None, _as_text(content), None
        if response.is_success:
            if error_answer is None:
                try:
                    return read(value)
                except (ValueError, RecursionError) as error:
                    fault = "nested too deeply" if isinstance(error, RecursionError) else error
                    raise Failed(self.cleaned(f"invalid answer: {fault}: {said}")) from None
            status, said = error_answer
        reason = self.cleaned(f"status {status or response.status_code}: {said}").removesuffix(":")
        if status is not None and status < 500 and status not in OVERLOADED_STATUS:
            raise Refused(status, reason)
        raise Failed(reason, _retry_after_s(response), is_overload=status in OVERLOADED_STATUS)

    async def _send(self, method: str, path: str, body: Any) -> tuple[httpx2.Response, bytes]:
        """Return the response to one request, and its content.

        Redirects are followed on the same origin only, because the key is sent again; Refused for others.
        Failed for an answer that is too long or takes too much time.
        """
        base_url = self.url.removesuffix("/v1") if path in BESIDE_V1 else self.url
        url = httpx2.URL(base_url + path)
        patience_s = min(self._read_timeout_s, ABOUT_TIMEOUT_S) if method == "GET" else self._read_timeout_s
        for _ in range(MAX_REDIRECTS):
            with self._limited("status and headers take more than", patience_s):
                response = await self._http.send(
                    self._http.build_request(method, url, json=body), stream=True
                )
            try:
                if not response.has_redirect_location:
                    return response, await self._content(response, patience_s)
            finally:
                await response.aclose()
            try:
                target = url.join(response.headers["location"])
            except (httpx2.InvalidURL, ValueError):
                break
            if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
                shown = str(target.copy_with(userinfo=b"", query=None, fragment=None))
                reason = f"it redirects to {shown}, another server; use --base-url {shown.removesuffix(path)}"
                raise Refused(response.status_code, self.cleaned(f"status {response.status_code}: {reason}"))
            url = target
        raise Refused(response.status_code, f"status {response.status_code}: its redirects lead nowhere")

    async def _content(self, response: httpx2.Response, patience_s: float) -> bytes:
        """Return the content of a response; Failed if it is larger or takes longer than an answer may.

        It must begin within `patience_s`. Line breaks that a server sends to keep the connection alive while
        it works are not the beginning.
        """
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ENCODINGS:
            raise Failed(self.cleaned(f"the answer has an unknown encoding: {encoding}"))
        content = bytearray()
        chunks = response.aiter_bytes()
        with self._limited("the answer does not begin within", patience_s):
            async for chunk in chunks:
                if content := bytearray(chunk.lstrip()):
                    break
        with self._limited("the answer is not complete after", BODY_TIMEOUT_S):
            async for chunk in chunks:
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise Failed(f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MB")
        return bytes(content)

    @contextmanager
    def _limited(self, what: str, seconds: float) -> Iterator[None]:
        try:
            with anyio.fail_after(seconds):
                yield
        except TimeoutError:
            raise Failed(f"{what} {seconds:g} s") from None

    def cleaned(self, text: str) -> str:
        """Return a server's message as one short line without the key and without control characters."""
        if self._key:
            text = text.replace(self._key, "***")
        line = "".join(character for character in " ".join(text.split()) if character.isprintable())
        return line if len(line) <= MAX_REASON else line[:MAX_REASON] + "..."


def _api_key() -> str | None:
    """Return the key in the environment; UsageError if an HTTP header cannot hold it."""
    for name in KEY_NAMES:
        key = os.environ.get(name, "").strip()
        if key:
            if not (key.isascii() and key.isprintable()):  # the HTTP library would show it in its error
                raise UsageError(f"the key in {name} contains an invalid character")
            return key
    return None


def _checked_url(base_url: str) -> str:
    """Return the URL before /completions: with /v1 if it has no path."""
    try:
        url = httpx2.URL(base_url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise UsageError(f"--base-url {base_url!r}: {error}") from None
    if url.userinfo:
        raise UsageError(f"--base-url contains a password; put a key into {KEY_NAMES[0]} instead")
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(f"--base-url {base_url!r} is not a URL such as http://localhost:8000/v1")
    return str(url.copy_with(path="/v1" if url.path in ("", "/") else url.path.rstrip("/")))


def suggested_url(url: str) -> str:
    """Return the base URL that is probably meant.

    >>> suggested_url("http://host:8000/v1/chat/completions"), suggested_url("http://host/api")
    ('http://host:8000/v1', 'http://host/api/v1')
    """
    for endpoint in ENDPOINTS:
        url = url.removesuffix(endpoint)
    return url if url.endswith("/v1") else f"{url}/v1"


def _as_text(content: bytes) -> str:
    """Return the beginning of an answer that is not JSON, to be quoted."""
    return (
        "an HTML page" if content.lstrip()[:1] == b"<" else content[: 8 * MAX_REASON].decode(errors="replace")
    )


def _retry_after_s(response: httpx2.Response) -> float:
    """Return the seconds that Retry-After asks for, given as a number or a date; 0 without it."""
    value = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
