"""An engine that says what a function tells it to: for tests of what is built on engines, not of engines."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from erprm_cli.engines.base import Completion, Failure, Request, SamplingParams, Usage


class ScriptedEngine:
    """Completes each request at once with `say(prompt, index)`; remembers what it was asked."""

    def __init__(self, say: Callable[[str, int], str]) -> None:
        self.say = say
        self.tokenizer: Any = None
        self.usage = Usage()
        self.asked: list[Request] = []

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion | Failure]:
        for request in requests:
            self.asked.append(request)
            for index in request.indices:
                text = self.say(str(request.prompt), index)
                reason = "stop" if len(text) <= params.max_tokens else "length"
                yield Completion(request.key, index, text[: params.max_tokens], len(text), reason)

    def close(self) -> None:
        pass
