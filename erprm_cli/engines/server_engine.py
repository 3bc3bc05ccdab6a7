"""Generation by any server that speaks OpenAI's API: vLLM, SGLang, llama.cpp or a provider.

Requests are sent as they are read and completions leave as they finish; memory holds only the requests in
flight. What the server can do is found out by asking it, so nothing needs to be configured:

- Prompts are token ids if the tokenizer of --model can be loaded here and agrees with the server's, else
  text. A chat is then sent to the server's chat endpoint, which may strip spaces at the end of a prefix.
- n completions of a prompt are one request if the server accepts `n`, else n requests.
- Completion i has the seed s + i, with s from the request's seed. vLLM gives the i-th of n the seed + i, so a
  completion does not depend on the request that asks for it; on other servers it does. How a server batches
  can change a draw that falls within a rounding error.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from typing import Any

from anyio.from_thread import start_blocking_portal

from erprm_cli.engines.base import Chat, Completion, Request, SamplingParams, Usage
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.in_flight import in_flight
from erprm_cli.engines.server_client import (
    READ_TIMEOUT_S,
    Answer,
    Choice,
    Refused,
    ServerClient,
    TokenCounts,
)
from erprm_cli.errors import EngineError, UserError
from erprm_cli.hashing import derive_seed
from erprm_cli.terminal.reporter import Reporter

# Fields that a server may refuse; they are then left out. The last three undo what a server would do to the
# policy's distribution by default (vLLM takes top_k and others from generation_config.json, llama.cpp has
# defaults of its own).
OPTIONAL = ("return_token_ids", "seed", "n", "top_k", "min_p", "repetition_penalty")
PLAIN_SAMPLING = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
CONTINUE_TURN = {"continue_final_message": True, "add_generation_prompt": False}
STOPPED = ("stop", "eos", "eos_token", "stop_sequence")  # finish reasons of a complete answer
NO_ENDPOINT = (404, 405, 501)
PROBE = "Question: What is 2 + 3?\nAnswer:\nStep 1: 2 + 3 = "
SEED_BITS = 30  # seed + index stays within the 31 bits that every server accepts

Call = tuple[Request, tuple[int, ...]]  # a request and those of its indices that are asked for together


class _Closed(Exception):
    """The engine is no longer wanted."""


class ServerEngine:
    """A model behind an HTTP server. `tokenizer` is None if prompts are sent as text or as chats."""

    def __init__(
        self,
        base_url: str,
        concurrency: int,
        tokenizer: Any = None,
        reporter: Reporter | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """Prepare for at most `concurrency` connections at once; nothing is sent yet."""
        self.concurrency = concurrency
        self.tokenizer = tokenizer
        self.reporter = reporter or Reporter("server")
        self.usage = Usage()
        self.model = ""
        self.max_model_len: int | None = None
        self.refused_fields: set[str] = set()  # of OPTIONAL
        self.has_completions = True  # the server has a completions endpoint
        self._checked_chats: set[bool] = set()  # known to work: new answers (False), continued ones (True)
        self._client = ServerClient(base_url, concurrency, read_timeout_s)
        self._open = ExitStack()
        self._portal = self._open.enter_context(start_blocking_portal(name="erprm-server"))
        self._open.enter_context(self._portal.wrap_async_context_manager(self._client))

    @classmethod
    def open(cls, config: EngineConfig, reporter: Reporter | None = None) -> "ServerEngine":
        """Connect to `config.base_url` and find out what it serves and which requests it accepts."""
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
        """Cancel the requests in flight and close the connections."""
        # Only an exception makes the portal cancel its tasks instead of waiting for them.
        with suppress(_Closed), self._open:
            raise _Closed

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        """Yield one completion per index of each request, in any order, as they finish.

        A request is read when fewer than `concurrency` are in flight; while `requests` blocks, finished
        completions wait. EngineError if the server keeps failing, UserError if it refuses a request.
        """

        def start(call: Call) -> Future[list[Completion]]:
            return self._portal.start_task_soon(self._complete, *call, params)

        # Closed here and not by the garbage collector: what is in flight ends with this generator.
        with closing(in_flight(self._calls(requests, params), start, self.concurrency)) as finished:
            try:
                for _, completions in finished:
                    yield from completions
            except Refused as refusal:
                raise self._client.error(refusal) from None

    # Before the first request

    async def _choose_model(self, name: str, names: set[str]) -> None:
        """Find the served model that has one of `names`; UserError lists the served models if none has."""
        try:
            served = await self._client.models()
        except Refused as refusal:
            if refusal.status not in NO_ENDPOINT:
                raise self._client.error(refusal) from None
            self.model = name  # the server does not list its models
            return
        chosen = next((model for model in served if model.id in names or model.root in names), None)
        if chosen is None:
            known = ", ".join(model.id for model in served) or "no model"
            raise UserError(f"{self._client.url} serves {known}, not {name}; set --model to a served model")
        self.model, self.max_model_len = chosen.id, chosen.max_model_len

    def _load_tokenizer(self, config: EngineConfig) -> Any:
        """Return the tokenizer of --model, or None with a note that prompts are sent as text."""
        try:
            from erprm_cli.models.loading import load_tokenizer

            return load_tokenizer(
                config.model, revision=config.revision, trust_remote_code=config.trust_remote_code
            )
        except ModuleNotFoundError as error:
            self._send_text(f"{error.name} is not installed")
        except UserError:
            self._send_text(f"no local tokenizer for {config.model!r}")
        return None

    def _send_text(self, reason: str) -> None:
        self.tokenizer = None
        self.reporter.info(f"note: {reason}, so prompts are sent as text, not as token ids")

    async def _find_abilities(self) -> None:
        """Complete one token, twice, to see which requests the server accepts."""
        try:
            answer = await self._ask("/completions", self._probe(prompt=PROBE, n=2))
        except Refused as refusal:
            if refusal.status not in NO_ENDPOINT and "chat/completions" not in refusal.reason:
                raise self._client.error(refusal) from None
            self.has_completions = False
            self.tokenizer = None  # the chat endpoint does not accept token ids
            return
        if self.tokenizer is not None:
            await self._check_tokenizer(answer.usage)
        self._learn(answer)

    async def _check_tokenizer(self, usage: TokenCounts | None) -> None:
        """Keep the tokenizer if the server accepts token ids and counts the same number of tokens."""
        ids = self.tokenizer(PROBE).input_ids
        counted = usage.prompt_tokens if usage else None
        if counted is not None and counted != len(ids):
            self._send_text(
                f"the local tokenizer is not the server's ({len(ids)} and {counted} tokens for the same text)"
            )
            return
        try:
            await self._ask("/completions", self._probe(prompt=ids))
        except Refused as refusal:
            self._send_text(f"the server refuses token ids ({refusal.reason})")

    async def _try_chat(self, is_continued: bool) -> None:
        """Check that the server chats, or that it continues an assistant's turn; UserError if not.

        A server that does not know the two flags of CONTINUE_TURN may ignore them and open a new turn. The
        prompt then has as many tokens with the flags as without.
        """
        user = {"role": "user", "content": "Count from 1 to 9."}
        begun = {"role": "assistant", "content": "1, 2, 3, 4"}
        if not is_continued:
            self._learn(await self._ask("/chat/completions", self._probe(messages=[user], n=2)))
            return
        explained = (
            f"{self._client.url} cannot continue an assistant's turn, which a rollout needs ({{}}); use a "
            "server with a completions endpoint, or with continue_final_message, such as vLLM"
        )
        messages = [user, begun]
        try:
            answer = await self._ask("/chat/completions", self._probe(messages=messages, **CONTINUE_TURN))
        except Refused as refusal:
            raise UserError(explained.format(refusal.reason)) from None
        try:
            fresh = await self._ask("/chat/completions", self._probe(messages=messages))
        except Refused:
            return  # a new turn after the assistant's is refused, so the first answer continued the turn
        sizes = [found.usage and found.usage.prompt_tokens for found in (answer, fresh)]
        if None in sizes:
            raise UserError(explained.format("it does not count prompt tokens, so this cannot be checked"))
        if sizes[0] >= sizes[1]:  # type: ignore[operator]
            raise UserError(explained.format("it opens a new turn"))
        messages[-1] = begun | {"content": begun["content"] + "\n\n"}
        longer = await self._ask("/chat/completions", self._probe(messages=messages, **CONTINUE_TURN))
        if longer.usage and longer.usage.prompt_tokens == sizes[0]:
            self.reporter.warn(
                "the server's chat template strips a prefix's last line break, so completions may begin with "
                "one; with a tokenizer that can be loaded here (--model) prefixes are exact"
            )

    def _probe(self, **fields: Any) -> dict[str, Any]:
        body = {"max_tokens": 1, "temperature": 1.0, "seed": 0, "return_token_ids": True, **PLAIN_SAMPLING}
        return body | fields

    def _learn(self, answer: Answer) -> None:
        """See from an answer to n = 2 whether n works and whether tokens can be counted."""
        is_countable = self.tokenizer is not None or answer.choices[0].token_ids is not None
        if len(answer.choices) < 2:
            self._leave_out("n")
        elif not is_countable:
            self._leave_out("n", "does not report the length of each of n completions")
        if not is_countable and (answer.usage is None or answer.usage.completion_tokens is None):
            raise UserError(
                f"{self._client.url} does not count tokens; set --model to one whose tokenizer can be loaded "
                "here"
            )

    # Requests

    def _calls(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Call]:
        """Yield each request with those of its indices that one HTTP request can ask for."""
        for request in requests:
            if isinstance(request.prompt, Chat):
                self._check_chat(is_continued=bool(request.prompt.begun))
            elif not self.has_completions:
                raise UserError(
                    f"{self._client.url} has a chat endpoint only; use a chat template such as gsm8k-chat or "
                    "math-chat"
                )
            # Greedy completions are all equal, and vLLM refuses to make several.
            together = params.temperature > 0 and "n" not in self.refused_fields
            for indices in _runs(request.indices) if together else ((index,) for index in request.indices):
                yield request, indices

    def _check_chat(self, is_continued: bool) -> None:
        for kind in (False, True) if is_continued else (False,):
            if kind not in self._checked_chats:
                try:
                    self._portal.call(self._try_chat, kind)
                except Refused as refusal:
                    raise self._client.error(refusal) from None
                self._checked_chats.add(kind)

    async def _complete(
        self, request: Request, indices: tuple[int, ...], params: SamplingParams
    ) -> list[Completion]:
        """Return the completions of consecutive indices, in as many HTTP requests as the server needs."""
        path, body, limit = self._body(request, params)
        completions: list[Completion] = []
        while len(completions) < len(indices):
            missing = indices[len(completions) :]
            if limit < 1:
                self.usage.too_long += len(missing)
                return completions + [Completion(request.key, index, "", 0, "length") for index in missing]
            seed = derive_seed(request.seed) % (1 << SEED_BITS) + missing[0]
            numbers = {"max_tokens": limit, "seed": seed}
            if len(missing) > 1:
                numbers["n"] = len(missing)
            try:
                answer = await self._ask(path, body | numbers)
            except Refused as refusal:
                if not _is_about_context(refusal.reason):
                    raise
                limit //= 2  # the prompt's length is unknown here, so halve until it fits
                continue
            if missing[0] == request.indices[0] and answer.usage:
                self.usage.prompt_tokens += answer.usage.prompt_tokens or 0
            choices = sorted(answer.choices, key=lambda choice: choice.index)[: len(missing)]
            if len(choices) < len(missing):
                self._leave_out("n")
            for index, choice in zip(missing, choices, strict=False):
                completions.append(self._completion(request, index, choice, answer))
        return completions

    def _body(self, request: Request, params: SamplingParams) -> tuple[str, dict[str, Any], int]:
        """Return the endpoint, the fields that do not depend on the index, and the limit of new tokens."""
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
                body |= CONTINUE_TURN
            return "/chat/completions", body, min(params.max_tokens, room - 1)
        body["prompt"] = prompt if isinstance(prompt, str) else list(prompt)
        if not isinstance(prompt, str) and self.max_model_len is not None:
            room = self.max_model_len - len(prompt) + 1
        return "/completions", body, min(params.max_tokens, room - 1)

    def _completion(self, request: Request, index: int, choice: Choice, answer: Answer) -> Completion:
        text = (choice.message.content if choice.message else choice.text) or ""
        reason = "stop" if choice.finish_reason in STOPPED else "length"
        if choice.token_ids is not None:
            num_tokens = len(choice.token_ids)
        elif len(answer.choices) == 1 and answer.usage and answer.usage.completion_tokens is not None:
            num_tokens = answer.usage.completion_tokens  # a sum over all choices
        elif self.tokenizer is not None:
            ids = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
            num_tokens = len(ids) + (reason == "stop")
        else:
            raise EngineError(f"{self._client.url} no longer reports how many tokens its completions have")
        self.usage.generated_tokens += num_tokens
        return Completion(request.key, index, text, num_tokens, reason)

    async def _ask(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Return the answer to `body`; a field that the server refuses by name is left out from then on."""
        while True:
            sent = {"model": self.model} | {
                name: value for name, value in body.items() if name not in self.refused_fields
            }
            try:
                return await self._client.complete(path, sent)
            except Refused as refusal:
                named = [name for name in OPTIONAL if re.search(rf"\b{name}\b", refusal.reason)]
                field = next((name for name in named if name in sent), None)
                if refusal.status not in (400, 422) or field is None or _is_about_context(refusal.reason):
                    raise
                self._leave_out(field, f"refuses {field} ({refusal.reason})")

    def _leave_out(self, field: str, reason: str = "gives one completion per request") -> None:
        if field in self.refused_fields:
            return
        self.refused_fields.add(field)
        if field == "seed":
            self.reporter.warn(f"the server {reason}: results will not be reproducible")
        if field == "n":
            self.reporter.info(f"the server {reason}, so each completion is a request of its own")


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
