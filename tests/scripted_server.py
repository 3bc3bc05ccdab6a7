"""An HTTP server on loopback that answers as a function tells it to: for the client's side of the wire."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fields = dict[str, Any]


@dataclass
class Reply:
    """What goes back; a body of None closes the connection without a word.

    A body that is an iterator of bytes is sent as they come, without a length, until the client leaves.
    """

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def limit(asked: Fields) -> int:
    """Return how many tokens are asked for, under the old name or the new one."""
    return int(asked["max_tokens" if "max_tokens" in asked else "max_completion_tokens"])


def refusal(message: str, status: int = 400, **fields: Any) -> Reply:
    """Return an error as OpenAI and vLLM write it."""
    return Reply({"error": {"message": message, "type": "BadRequestError", **fields}}, status)


def completed(asked: Fields, text: str = "The answer is: 5", **usage: int) -> Reply:
    """Return n completions, or a chat's, with what the fields ask for; each token is a word."""
    chat = "messages" in asked
    choices = []
    for index in range(asked.get("n", 1)):
        choice: Fields = {"index": index, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if asked.get("return_token_ids"):
            choice["token_ids"] = list(range(len(text.split())))
        choices.append(choice)
    counted = {"prompt_tokens": 10, "completion_tokens": len(choices) * len(text.split())} | usage
    return Reply({"choices": choices, "usage": counted})


class ScriptedServer:
    """Serves the model "m"; remembers the POSTs, their headers and how many were under way at most.

    `models` is the answer to a GET, unless `gets` has another one for its path.
    """

    def __init__(self, say: Callable[[str, Fields], Reply], port: int = 0) -> None:
        """Answer a POST by `say(path, fields)`, the path without /v1, and a GET by `models`.

        Port 0 takes a free one.
        """
        self.say = say
        self.models = Reply({"data": [{"id": "m"}]})
        self.gets = {"/prm": Reply({"detail": "Not Found"}, 404)}
        self.asked: list[Fields] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = self._at_once = 0
        self.lock = threading.Lock()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(script.gets.get(self.path.removeprefix("/v1"), script.models))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if not body:
                    return  # the client has left
                fields = json.loads(body)
                with script.lock:
                    script.asked.append(fields)
                    script.headers.append({name.lower(): value for name, value in self.headers.items()})
                    script._at_once += 1
                    script.most_at_once = max(script.most_at_once, script._at_once)
                try:
                    reply = script.say(self.path.removeprefix("/v1"), fields)
                finally:
                    with script.lock:
                        script._at_once -= 1
                self.reply(reply)

            def reply(self, reply: Reply) -> None:
                if reply.body is None:
                    self.close_connection = True
                    return
                if isinstance(reply.body, Iterator):
                    pieces, length = reply.body, {"Connection": "close"}
                else:
                    body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                    pieces, length = iter([body]), {"Content-Length": str(len(body))}
                self.send_response(reply.status)
                for name, value in (length | reply.headers).items():
                    self.send_header(name, value)
                with suppress(ConnectionError):  # the client may have left
                    self.end_headers()
                    for piece in pieces:
                        self.wfile.write(piece)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    @property
    def work(self) -> list[Fields]:
        """What was asked beside the engine's own questions, which want one token."""
        return [fields for fields in self.asked if limit(fields) > 1]


@contextmanager
def serving(say: Callable[[str, Fields], Reply]) -> Iterator[ScriptedServer]:
    """Run a scripted server in a thread."""
    server = ScriptedServer(say)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()
