"""The service in a thread of the test, with a small random PRM."""

import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import httpx2

from erprm_cli.engines.config import EngineConfig
from erprm_cli.policy.templates import load_template
from erprm_cli.prm.scorer import Scorer
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rows.row import Row
from erprm_cli.serving.config import ServiceConfig
from erprm_cli.serving.server import bound_socket, described, make_server, url_of

CLIENT = httpx2.Client(timeout=60)  # making one takes long


class SlowScorer(Scorer):
    """A scorer that rests before each batch, for `pause_s`."""

    pause_s = 0.0

    def score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Row]:
        time.sleep(self.pause_s)
        return super().score_encoded(solutions)


@contextmanager
def serving(scorer: Scorer, key: str | None = None, **changes: Any) -> Iterator[str]:
    """Serve a PRM while the block runs, and return its URL; `changes` are fields of ServiceConfig."""
    config = ServiceConfig(**changes)
    prm = described(scorer, EngineConfig(scorer.name))
    server = make_server(scorer, prm, config, load_template(config.template), key)
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]  # not in this thread
    listener = bound_socket("127.0.0.1", 0)
    url = url_of(listener)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield url
    finally:
        server.should_exit = True
        thread.join()


def post(url: str, path: str, body: Any, **options: Any) -> httpx2.Response:
    return CLIENT.post(url + path, json=body, **options)


def message(response: httpx2.Response, status: int) -> str:
    """Return the message of an error, which must have this status."""
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, status)
    assert response.headers["content-type"] == "application/json"
    found: str = error["message"]
    return found


def connected(url: str, sent: bytes = b"") -> socket.socket:
    """Return a connection on which `sent` was sent."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(sent)
    return connection


def received(connection: socket.socket) -> str:
    """Return all that the server sends until it closes the connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts).decode()


def metric(url: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", CLIENT.get(f"{url}/metrics").text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def until(condition: Any, seconds: float = 30.0) -> None:
    """Wait until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
