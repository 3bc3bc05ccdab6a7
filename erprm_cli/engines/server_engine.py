"""Generation by any server that speaks OpenAI's API: vLLM, SGLang, llama.cpp, a provider.

Requests go out as they are read and completions leave as they finish; memory is that of the requests under
way. What the server can do is found out by asking it, so nothing need be configured:

- Prompts are token ids where the tokenizer of --model can be loaded here and is the server's, else text. A
  chat then goes to the server's chat endpoint, which may strip blanks at the end of a prefix.
- n completions of a prompt are one request where the server takes `n`, else n requests.
- Completion i has the seed s + i, s from the request's seed. vLLM gives the i-th of n the seed + i, so there
  a completion is the same in whatever request it comes; elsewhere only if the requests are the same ones. How
  a server batches can move a draw that falls within a rounding error.
"""

import os
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from queue import SimpleQueue
from typing import Annotated, Any, TypeVar

import anyio
import httpx2
import msgspec
from anyio.from_thread import start_blocking_portal

from erprm_cli.engines.base import Chat, Completion, Request, SamplingParams, Usage
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import EngineError, UsageError, UserError
from erprm_cli.hashing import derive_seed
from erprm_cli.terminal.reporter import Reporter

KEY_NAMES = ("ERPRM_API_KEY", "OPENAI_API_KEY")
# What a server may refuse: it is then left out. The last three undo what a server would do to the policy's
# distribution by default (vLLM takes top_k and others from generation_config.json, llama.cpp has its own).
OPTIONAL = ("return_token_ids", "seed", "n", "top_k", "min_p", "repetition_penalty")
PLAIN_SAMPLING = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
NO_ENDPOINT = (404, 405, 501)
TRY_AGAIN = (408, 409, 425, 429)  # and 5xx
RETRIES = 5
BACKOFF_S = 0.5  # doubled each time
MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 600.0
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 3600.0  # a completion may wait for a long queue, and asking again would only lengthen it
PROBE = "Question: What is 2 + 3?\nAnswer:\nStep 1: 2 + 3 = "
SEED_BITS = 30  # seed + index stays within the 31 bits that every server takes


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None  # of a completion
    message: _Message | None = None  # of a chat
    finish_reason: str | None = None
    token_ids: list[int] | None = None  # vLLM's, with return_token_ids


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Answer(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None


class _Model(msgspec.Struct):
    id: str
    root: str | None = None  # vLLM: the folder or Hub name behind the name
    max_model_len: int | None = None  # vLLM


class _Models(msgspec.Struct):
    data: list[_Model]


T = TypeVar("T", _Answer, _Models)


class _Refused(Exception):
    """The server answered, and its answer is that it will not: a 4xx."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class _Closed(Exception):
    """The engine is no longer wanted."""


class ServerEngine:
    """A model behind an HTTP server. `tokenizer` is None where prompts go as text or as chats."""

    def __init__(
        self,
        base_url: str,
        concurrency: int,
        tokenizer: Any = None,
        reporter: Reporter | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """Open connections, at most `concurrency` at once; nothing is asked yet."""
        self.url = _checked_url(base_url)
        self.concurrency = concurrency
        self.tokenizer = tokenizer
        self.reporter = reporter or Reporter("server")
        self.usage = Usage()
        self.model = ""
        self.max_model_len: int | None = None
        self.refused: set[str] = set()  # of OPTIONAL
        self.completes = True  # has a completions endpoint
        self._chats: set[bool] = set()  # what is known to work: new answers (False), continued ones (True)
        self._answered = 0.0  # when the server last gave an answer
        self._flying: set[Future[list[Completion]]] = set()
        self._key = _api_key()
        self._open = ExitStack()
        self._portal = self._open.enter_context(start_blocking_portal(name="erprm-server"))
        client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        self._client = self._open.enter_context(self._portal.wrap_async_context_manager(client))

    @classmethod
    def open(cls, config: EngineConfig, reporter: Reporter | None = None) -> "ServerEngine":
        """Connect to `config.base_url` and find out what is served there and how it can be asked."""
        assert config.base_url is not None
        engine = cls(config.base_url, config.concurrency, reporter=reporter)
        names = {config.model}
        with suppress(ModuleNotFoundError):
            from erprm_cli.shipped import resolve

            names.add(resolve(config.model))
        try:
            engine._portal.call(engine._choose_model, config.model, names)
            engine.tokenizer = engine._load_tokenizer(config)
            engine._portal.call(engine._find_abilities)
        except BaseException:
            engine.close()
            raise
        return engine

    def close(self) -> None:
        """Break off what is under way and close the connections."""
        self._cancel()
        # Left without an exception, the portal would wait for its tasks; and of one of them we may not know,
        # if a signal came just after its start.
        with suppress(_Closed), self._open:
            raise _Closed

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        """Yield one completion per index of each request, in any order, as they finish.

        A request is drawn when fewer than `concurrency` are under way; while its source lets it wait, what
        finishes meanwhile waits too. EngineError if the server fails for good, UserError if it refuses.
        """
        calls = self._calls(requests, params)
        finished: SimpleQueue[Future[list[Completion]]] = SimpleQueue()
        exhausted = False
        try:
            while True:
                if not exhausted and len(self._flying) < self.concurrency:
                    call = next(calls, None)
                    if call is None:
                        exhausted = True
                    else:
                        future = self._portal.start_task_soon(self._complete, *call, params)
                        self._flying.add(future)
                        future.add_done_callback(finished.put)
                    if finished.empty():
                        continue
                if not self._flying:
                    return
                future = finished.get()
                self._flying.discard(future)
                try:
                    yield from future.result()
                except _Refused as refusal:
                    raise self._told(refusal) from None
        finally:
            self._cancel()

    def _cancel(self) -> None:
        for future in self._flying:
            future.cancel()
        self._flying.clear()

    # Before the first request

    async def _choose_model(self, name: str, names: set[str]) -> None:
        """Find the served model that has one of `names`; UserError lists what is served if there is none."""
        try:
            served = (await self._exchange("GET", "/models", None, _Models)).data
        except _Refused as refusal:
            if refusal.status not in NO_ENDPOINT:
                raise self._told(refusal) from None
            self.model = name  # a server that keeps no list
            return
        chosen = next((model for model in served if model.id in names or model.root in names), None)
        if chosen is None:
            known = ", ".join(model.id for model in served) or "no model"
            raise UserError(f"{self.url} serves {known}, not {name}; give -m what it serves")
        self.model, self.max_model_len = chosen.id, chosen.max_model_len

    def _load_tokenizer(self, config: EngineConfig) -> Any:
        """Return the tokenizer of --model, or None with a line that says what follows from that."""
        try:
            from erprm_cli.models.loading import load_tokenizer

            return load_tokenizer(
                config.model, revision=config.revision, trust_remote_code=config.trust_remote_code
            )
        except ModuleNotFoundError as error:
            reason = f"{error.name} is not installed"
        except UserError as error:
            reason = str(error)
        self._use_text(reason)
        return None

    def _use_text(self, reason: str) -> None:
        self.tokenizer = None
        self.reporter.info(f"prompts go to the server as text, not as token ids: {reason}")

    async def _find_abilities(self) -> None:
        """Complete one token, twice, to see how the server can be asked."""
        try:
            answer = await self._ask("/completions", self._probe(prompt=PROBE, n=2))
        except _Refused as refusal:
            if refusal.status not in NO_ENDPOINT and "chat/completions" not in refusal.reason:
                raise self._told(refusal) from None
            self.completes = False
            self.tokenizer = None  # the chat endpoint takes no ids
            return
        if self.tokenizer is not None:
            await self._try_ids(answer.usage)
        self._learn(answer)

    async def _try_ids(self, usage: _Usage | None) -> None:
        """Keep the tokenizer if the server takes ids and seems to have the same one."""
        ids = self.tokenizer(PROBE).input_ids
        counted = usage.prompt_tokens if usage else None
        if counted is not None and counted != len(ids):
            self._use_text(f"a text of {len(ids)} tokens by the tokenizer here has {counted} there")
            return
        try:
            await self._ask("/completions", self._probe(prompt=ids))
        except _Refused as refusal:
            self._use_text(f"it refuses ids ({refusal.reason})")

    async def _try_chat(self, continued: bool) -> None:
        """Make sure that the server chats, or that it continues an assistant's turn; UserError if not.

        A server that does not know the two flags may ignore them and open a new turn. The prompt then has
        as many tokens with them as without.
        """
        user = {"role": "user", "content": "Count from 1 to 9."}
        begun = {"role": "assistant", "content": "1, 2, 3, 4"}
        if not continued:
            self._learn(await self._ask("/chat/completions", self._probe(messages=[user], n=2)))
            return
        explained = (
            f"{self.url} cannot continue an assistant's turn, and a rollout must continue its prefix ({{}}); "
            "take a server with a completions endpoint, or one that has continue_final_message, as vLLM"
        )
        messages = [user, begun]
        try:
            answer = await self._ask("/chat/completions", self._probe(messages=messages, **CONTINUE))
        except _Refused as refusal:
            raise UserError(explained.format(refusal.reason)) from None
        try:
            fresh = await self._ask("/chat/completions", self._probe(messages=messages))
        except _Refused:
            return  # as a new turn after the assistant's it would have been refused, so it was none
        sizes = [found.usage and found.usage.prompt_tokens for found in (answer, fresh)]
        if None in sizes:
            raise UserError(explained.format("it counts no prompt tokens, which would show that it can"))
        if sizes[0] >= sizes[1]:  # type: ignore[operator]
            raise UserError(explained.format("it opens a new turn"))
        messages[-1] = begun | {"content": begun["content"] + "\n\n"}
        longer = await self._ask("/chat/completions", self._probe(messages=messages, **CONTINUE))
        if longer.usage and longer.usage.prompt_tokens == sizes[0]:
            self.reporter.warn(
                "the server's chat template strips a prefix's last line break, so completions may begin with "
                "one; a tokenizer that can be loaded here (-m) makes them exact"
            )

    def _probe(self, **fields: Any) -> dict[str, Any]:
        body = {"max_tokens": 1, "temperature": 1.0, "seed": 0, "return_token_ids": True, **PLAIN_SAMPLING}
        return body | fields

    def _learn(self, answer: _Answer) -> None:
        """See from an answer for which n was 2 whether n will do, and whether tokens can be counted."""
        countable = self.tokenizer is not None or answer.choices[0].token_ids is not None
        if len(answer.choices) < 2:
            self._leave_out("n")
        elif not countable:
            self._leave_out("n", "does not say how long each of n completions is")
        if not countable and (answer.usage is None or answer.usage.completion_tokens is None):
            raise UserError(f"{self.url} counts no tokens; give -m a tokenizer that can be loaded here")

    # Requests

    def _calls(
        self, requests: Iterable[Request], params: SamplingParams
    ) -> Iterator[tuple[Request, tuple[int, ...]]]:
        """Yield each request with those of its indices that one HTTP request can ask for."""
        for request in requests:
            if isinstance(request.prompt, Chat):
                self._check_chat(continued=bool(request.prompt.begun))
            elif not self.completes:
                raise UserError(f"{self.url} only chats; take a chat template, as gsm8k-chat or math-chat")
            # Greedy completions are all the same, and vLLM refuses to make several.
            together = params.temperature > 0 and "n" not in self.refused
            for indices in _runs(request.indices) if together else ((index,) for index in request.indices):
                yield request, indices

    def _check_chat(self, continued: bool) -> None:
        for kind in (False, True) if continued else (False,):
            if kind not in self._chats:
                try:
                    self._portal.call(self._try_chat, kind)
                except _Refused as refusal:
                    raise self._told(refusal) from None
                self._chats.add(kind)

    async def _complete(
        self, request: Request, indices: tuple[int, ...], params: SamplingParams
    ) -> list[Completion]:
        """Return the completions of consecutive indices, in as many requests as the server needs."""
        path, body, limit = self._body(request, params)
        completions: list[Completion] = []
        while len(completions) < len(indices):
            left = indices[len(completions) :]
            if limit < 1:
                self.usage.too_long += len(left)
                return completions + [Completion(request.key, index, "", 0, "length") for index in left]
            seed = derive_seed(request.seed) % (1 << SEED_BITS) + left[0]
            numbers = {"max_tokens": limit, "seed": seed, **({"n": len(left)} if len(left) > 1 else {})}
            try:
                answer = await self._ask(path, body | numbers)
            except _Refused as refusal:
                if not _is_about_context(refusal.reason):
                    raise
                limit //= 2  # the prompt's length is not known here: half, until it fits
                continue
            if left[0] == request.indices[0] and answer.usage:
                self.usage.prompt_tokens += answer.usage.prompt_tokens or 0
            choices = sorted(answer.choices, key=lambda choice: choice.index)[: len(left)]
            if len(choices) < len(left):
                self._leave_out("n")
            for index, choice in zip(left, choices, strict=False):
                completions.append(self._completion(request, index, choice, answer))
        return completions

    def _body(self, request: Request, params: SamplingParams) -> tuple[str, dict[str, Any], int]:
        """Return the endpoint, the fields that all its HTTP requests share, and the most tokens to make."""
        body: dict[str, Any] = {
            "temperature": params.temperature,
            "top_p": params.top_p,
            "return_token_ids": True,
            **PLAIN_SAMPLING,
        }
        if params.stop:
            body["stop"] = list(params.stop)
        prompt = request.prompt
        room = self.max_model_len or params.max_tokens + 1
        if isinstance(prompt, Chat):
            body["messages"] = [{"role": role, "content": content} for role, content in prompt.turns]
            if prompt.begun:
                body["messages"].append({"role": "assistant", "content": prompt.begun})
                body |= CONTINUE
            return "/chat/completions", body, min(params.max_tokens, room - 1)
        body["prompt"] = prompt if isinstance(prompt, str) else list(prompt)
        if not isinstance(prompt, str) and self.max_model_len is not None:
            room = self.max_model_len - len(prompt) + 1
        return "/completions", body, min(params.max_tokens, room - 1)

    def _completion(self, request: Request, index: int, choice: _Choice, answer: _Answer) -> Completion:
        text = (choice.message.content if choice.message else choice.text) or ""
        reason = "stop" if choice.finish_reason in ("stop", "eos", "eos_token", "stop_sequence") else "length"
        if choice.token_ids is not None:
            num_tokens = len(choice.token_ids)
        elif len(answer.choices) == 1 and answer.usage and answer.usage.completion_tokens is not None:
            num_tokens = answer.usage.completion_tokens  # a sum over all choices
        elif self.tokenizer is not None:
            ids = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
            num_tokens = len(ids) + (reason == "stop")
        else:
            raise EngineError(f"{self.url} stopped saying how many tokens its completions have")
        self.usage.generated_tokens += num_tokens
        return Completion(request.key, index, text, num_tokens, reason)

    # HTTP

    async def _ask(self, path: str, body: Mapping[str, Any]) -> _Answer:
        """Return the answer to `body`; a field that the server refuses by name is left out for good."""
        while True:
            sent = {"model": self.model} | {
                name: value for name, value in body.items() if name not in self.refused
            }
            try:
                return await self._exchange("POST", path, sent, _Answer)
            except _Refused as refusal:
                named = [name for name in OPTIONAL if re.search(rf"\b{name}\b", refusal.reason)]
                field = next((name for name in named if name in sent), None)
                if refusal.status not in (400, 422) or field is None or _is_about_context(refusal.reason):
                    raise
                self._leave_out(field, f"refuses {field} ({refusal.reason})")

    def _leave_out(self, field: str, reason: str = "gives one completion a request") -> None:
        if field in self.refused:
            return
        self.refused.add(field)
        if field == "seed":
            self.reporter.warn(f"the server {reason}: another run will give other rows")
        if field == "n":
            self.reporter.info(f"each completion is a request of its own: the server {reason}")

    async def _exchange(self, method: str, path: str, body: Any, kind: type[T]) -> T:
        """Return the server's answer, asking again while it fails in ways that pass.

        EngineError when it failed `RETRIES` times again and nobody has had an answer in the meantime.
        """
        first_failure, failures = 0.0, 0
        while True:
            wait = 0.0
            try:
                response = await self._client.request(method, self.url + path, json=body)
                status = response.status_code
                if response.is_success:
                    answer = msgspec.json.decode(response.content, type=kind)
                    self._answered = time.monotonic()
                    return answer
                reason = self._cleaned(f"status {status}: {_explanation(response)}")
                if status < 500 and status not in TRY_AGAIN:
                    raise _Refused(status, reason)
                wait = _retry_after(response)
            except (httpx2.TransportError, httpx2.DecodingError) as error:
                reason = self._cleaned(f"{type(error).__name__} {error}".strip())
            except msgspec.DecodeError as error:
                reason = self._cleaned(f"an answer that cannot be read: {error}")
            failures += 1
            first_failure = first_failure or time.monotonic()
            if wait > MAX_RETRY_AFTER_S:
                raise EngineError(f"{self.url} asks to come back in {wait:,.0f} s ({reason})")
            if failures > RETRIES and self._answered < first_failure:
                raise EngineError(f"{self.url} failed {failures} times in a row, the last with: {reason}")
            backoff = min(BACKOFF_S * 2.0 ** (failures - 1), MAX_BACKOFF_S) * random.uniform(0.8, 1.2)
            await anyio.sleep(wait or backoff)

    def _told(self, refusal: _Refused) -> UserError:
        """Return the error for a refusal, with what can be done where that is known."""
        remedy = ""
        if refusal.status in (401, 403):
            remedy = f"; the key is read from {' or '.join(KEY_NAMES)}" + ("" if self._key else ", not set")
        return UserError(f"{self.url} refuses: {refusal.reason}{remedy}")

    def _cleaned(self, text: str) -> str:
        """Return what a server says as one short line that holds no key and nothing a terminal obeys."""
        if self._key:
            text = text.replace(self._key, "***")
        line = "".join(character for character in " ".join(text.split()) if character.isprintable())
        return line if len(line) <= 300 else line[:300] + "..."


CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}


def _runs(indices: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Split ascending numbers into runs of consecutive ones.

    >>> list(_runs((0, 1, 4, 5, 7)))
    [(0, 1), (4, 5), (7,)]
    """
    begin = 0
    for end in range(1, len(indices) + 1):
        if end == len(indices) or indices[end] != indices[end - 1] + 1:
            yield indices[begin:end]
            begin = end


def _is_about_context(reason: str) -> bool:
    return re.search(r"context.?(length|window|size)", reason) is not None


def _api_key() -> str | None:
    """Return the key in the environment; UsageError if it cannot stand in a header."""
    for name in KEY_NAMES:
        key = os.environ.get(name, "").strip()
        if key:
            if not (key.isascii() and key.isprintable()):  # the HTTP library would show it in its error
                raise UsageError(f"the key in {name} has a character in it that no key has")
            return key
    return None


def _checked_url(base_url: str) -> str:
    """Return the URL before /completions: with /v1 where no path is given."""
    try:
        url = httpx2.URL(base_url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise UsageError(f"--base-url {base_url!r}: {error}") from None
    if url.userinfo:
        raise UsageError(f"--base-url holds a password; put a key into {KEY_NAMES[0]} instead")
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(f"--base-url {base_url!r} is no URL like http://localhost:8000/v1")
    return str(url.copy_with(path="/v1" if url.path in ("", "/") else url.path.rstrip("/")))


def _explanation(response: httpx2.Response) -> str:
    """Return all that an error says of itself, whatever its form, but not what it repeats of the request."""

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


def _retry_after(response: httpx2.Response) -> float:
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
