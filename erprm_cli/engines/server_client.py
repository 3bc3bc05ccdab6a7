"""HTTP with a server that speaks OpenAI's API: messages, key, URL, and retries of failures that may pass.

Why not stamina or openai's client: which failures pass, the cap on Retry-After and "give up only if no other
request was answered meanwhile" would stay our own, so neither saves a line; stamina also logs to stderr.
"""

import os
import random
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Self, TypeVar

import anyio
import httpx2
import msgspec

from erprm_cli.errors import EngineError, UsageError, UserError

KEY_NAMES = ("ERPRM_API_KEY", "OPENAI_API_KEY")
RETRIED_STATUS = (408, 409, 425, 429)  # and 5xx
RETRIES = 5
BACKOFF_S = 0.5  # doubled each time
MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 600.0
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 3600.0  # a completion may wait in a long queue, and a retry would only lengthen the queue
MAX_REASON = 300  # characters of a server's message that are shown


class Message(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None  # of a completion
    message: Message | None = None  # of a chat
    finish_reason: str | None = None
    token_ids: list[int] | None = None  # vLLM's, with return_token_ids


class TokenCounts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Answer(msgspec.Struct):
    choices: Annotated[list[Choice], msgspec.Meta(min_length=1)]
    usage: TokenCounts | None = None


class ServedModel(msgspec.Struct):
    id: str
    root: str | None = None  # vLLM: the folder or Hub name behind the name
    max_model_len: int | None = None  # vLLM


class ServedModels(msgspec.Struct):
    data: list[ServedModel]


T = TypeVar("T", Answer, ServedModels)


class Refused(Exception):
    """The server answered that it will not do what was asked (a 4xx); asking again does not help."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Failed(Exception):
    """A failure that may pass. `retry_after_s` is what the server asked for; 0 if it did not."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s = reason, retry_after_s


class ServerClient:
    """Connections to one server; an asynchronous context manager that closes them."""

    def __init__(self, base_url: str, max_connections: int, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        """Prepare to connect; UsageError for a URL or a key that cannot be used."""
        self.url = _checked_url(base_url)
        self._key = _api_key()
        self._last_answer = 0.0  # time of the server's last answer to any request
        self._http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._http.__aexit__(*exception)

    async def models(self) -> list[ServedModel]:
        """Return the models that the server lists; errors as of `complete`."""
        return (await self._exchange("GET", "/models", None, ServedModels)).data

    async def complete(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Return the answer to `body` at an endpoint (`path` is what follows /v1).

        Raises Refused for a 4xx, EngineError if the server keeps failing.
        """
        return await self._exchange("POST", path, body, Answer)

    def error(self, refusal: Refused) -> UserError:
        """Return the error that reports a refusal, with a remedy where one is known."""
        remedy = ""
        if refusal.status in (401, 403):
            remedy = f"; the key is read from {' or '.join(KEY_NAMES)}" + ("" if self._key else " (not set)")
        return UserError(f"{self.url} refused the request: {refusal.reason}{remedy}")

    async def _exchange(self, method: str, path: str, body: Any, kind: type[T]) -> T:
        """Return the server's answer, with retries while the server fails in a way that may pass.

        EngineError after `RETRIES` retries if no other request was answered meanwhile.
        """
        first_failure, failures = 0.0, 0
        while True:
            try:
                answer = await self._attempt(method, path, body, kind)
            except Failed as error:
                failure = error
            else:
                self._last_answer = time.monotonic()
                return answer
            failures += 1
            first_failure = first_failure or time.monotonic()
            wait_s = failure.retry_after_s
            if wait_s > MAX_RETRY_AFTER_S:
                raise EngineError(f"{self.url} asks for a retry in {wait_s:,.0f} s only ({failure.reason})")
            if failures > RETRIES and self._last_answer < first_failure:
                raise EngineError(
                    f"{self.url} failed {failures} times in a row; last error: {failure.reason}"
                )
            backoff = min(BACKOFF_S * 2.0 ** (failures - 1), MAX_BACKOFF_S) * random.uniform(0.8, 1.2)
            await anyio.sleep(wait_s or backoff)

    async def _attempt(self, method: str, path: str, body: Any, kind: type[T]) -> T:
        """Return the server's answer to one request; Failed if a retry may help, Refused if not."""
        try:
            response = await self._http.request(method, self.url + path, json=body)
            if response.is_success:
                return msgspec.json.decode(response.content, type=kind)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise Failed(self._cleaned(f"{type(error).__name__} {error}".strip())) from None
        except msgspec.DecodeError as error:
            raise Failed(self._cleaned(f"invalid answer: {error}")) from None
        status = response.status_code
        reason = self._cleaned(f"status {status}: {_explanation(response)}")
        if status < 500 and status not in RETRIED_STATUS:
            raise Refused(status, reason)
        raise Failed(reason, _retry_after_s(response))

    def _cleaned(self, text: str) -> str:
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


def _explanation(response: httpx2.Response) -> str:
    """Return all text of an error response, whatever its form, except what it repeats of the request."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, part in value.items():
                if name not in ("input", "body", "url"):
                    yield from texts(part)
        elif isinstance(value, list):
            for part in value:
                yield from texts(part)
        elif isinstance(value, str):
            yield value

    try:
        return " ".join(texts(msgspec.json.decode(response.content)))
    except msgspec.DecodeError:
        return response.text


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
