"""What every request passes before it reaches the service: the key, the size and the time of its body.

An ASGI middleware that reads the whole body first, and a protocol that also limits the time of the headers,
for which uvicorn has no limit.
"""

import asyncio
import hmac
import time
from contextlib import suppress
from typing import Any

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from erprm_cli.serving.errors import ApiError, overloaded
from erprm_cli.serving.metrics import Metrics

OPEN_PATHS = frozenset({"/health", "/docs", "/openapi.json"})  # without a key
HEADERS_TIMEOUT_S = 20.0
MAX_HELD_BODIES = 32  # largest bodies in memory at a time, of all requests
DISCARDED_BODIES = 4  # largest bodies that are read and dropped, so that the client reads why


class Gone(Exception):
    """The client closed the connection."""


class Guard:
    """The middleware."""

    def __init__(
        self, app: ASGIApp, *, key: str | None, max_body_bytes: int, timeout_s: float, metrics: Metrics
    ) -> None:
        """Guard `app`; `key` is what a client must send as "Authorization: Bearer KEY" (None: nothing)."""
        self.app, self.metrics = app, metrics
        self.key = None if key is None else key.encode()
        self.max_body_bytes, self.timeout_s = max_body_bytes, timeout_s
        self.held_bytes = 0  # of the bodies of all requests now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begin, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        body = bytearray()
        try:
            self._check_key(scope)
            await self._read(scope, receive, body)
            await self.app(scope, replayed(bytes(body), receive), counted)
        except ApiError as error:
            response = error.response()
            response.headers["connection"] = "close"  # the rest of the body would be read otherwise
            await response(scope, receive, counted)
        except Gone:
            pass
        finally:
            self.held_bytes -= len(body)
            route = scope.get("route")
            path = getattr(route, "path", "other")  # not what a stranger sends: each label is kept
            self.metrics.requests.labels(path, status or "gone").inc()
            self.metrics.request_seconds.labels(path).observe(time.perf_counter() - begin)

    def _check_key(self, scope: Scope) -> None:
        if self.key is None or scope["path"] in OPEN_PATHS:
            return
        kind, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self.key):
            raise ApiError(
                401,
                "send the key of this server as the header 'Authorization: Bearer KEY'",
                headers={"www-authenticate": "Bearer"},
            )

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        """Read the body into `body`; ApiError if it is too large or takes too long."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        num_bytes, too_large = 0, int(declared) > self.max_body_bytes
        try:
            async with asyncio.timeout(self.timeout_s):
                more = not too_large or dict(scope["headers"]).get(b"expect") is None
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    num_bytes += len(chunk)
                    too_large = too_large or num_bytes > self.max_body_bytes
                    if too_large:
                        more = more and num_bytes < DISCARDED_BODIES * self.max_body_bytes
                        continue
                    body += chunk
                    self.held_bytes += len(chunk)
                    if self.held_bytes > MAX_HELD_BODIES * self.max_body_bytes:
                        raise overloaded("too many large requests at a time; try again later")
        except TimeoutError:
            raise ApiError(408, f"the body did not arrive within {self.timeout_s:g} s") from None
        if too_large:
            limit = self.max_body_bytes / 1e6
            raise ApiError(413, f"the body is larger than {limit:g} MB (--max-body-mb); send it in parts")


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives `body`, and after it what `receive` gives: that the client has gone."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, but a connection without a request is closed after HEADERS_TIMEOUT_S."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take data; once the headers are complete, the clock stops."""
        super().data_received(data)
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP. h11 allows no text after a HEAD request, so that is only closed."""
        with suppress(h11.LocalProtocolError):
            super().send_400_response(msg)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _watch(self) -> None:
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_TIMEOUT_S, self.timeout_keep_alive_handler)
        elif not is_idle and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
