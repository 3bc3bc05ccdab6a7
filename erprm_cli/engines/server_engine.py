"""Generation by any server that speaks OpenAI's API: vLLM, SGLang, llama.cpp or a provider.

Requests are sent as they are read and completions leave as they finish; memory holds only the requests in
flight. What the server can do is found out by asking it, so nothing needs to be configured:

- Prompts are token ids if the tokenizer of --model can be loaded here and agrees with the server's, else
  text. A chat is then sent to the server's chat endpoint, which may strip spaces at the end of a prefix.
- n completions of a prompt are one request if the server accepts `n`, else n requests.
- Completion i has the seed s + i, with s from the request's seed. vLLM gives the i-th of n the seed + i, so a
  completion does not depend on the request that asks for it; on other servers it does. How a server batches
  can change a draw that falls within a rounding error.
- Reasoning that a server sends apart from the answer is the completion's `reasoning`.
- What a server aborts, filters or refuses is a Failure and never a Completion, so it gets no reward.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from typing import Any

from erprm_cli.engines.base import LATER, Chat, Completion, Failure, Request, SamplingParams, Usage
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.in_flight import Wait, in_flight
from erprm_cli.engines.server_answers import ABOUT_CONTENT, ABOUT_LENGTH, Answer, Choice
from erprm_cli.engines.server_client import (
    RETRIES,
    Refused,
    RequestFailed,
    ServerClient,
)
from erprm_cli.engines.server_connection import ServerConnection
from erprm_cli.engines.server_dialect import (
    ALL_TOKENS,
    CONTINUE_TURN,
    PLAIN_SAMPLING,
    Dialect,
)
from erprm_cli.engines.server_failures import PROMPT_STATUS, Doubtful, blamed
from erprm_cli.errors import EngineError, UserError
from erprm_cli.hashing import derive_seed
from erprm_cli.terminal.reporter import Reporter

SEED_BITS = 30  # seed + index stays within the 31 bits that every server accepts

Call = tuple[Request, tuple[int, ...]]  # a request and those of its indices that are asked for together


class ServerEngine:
    """A model behind an HTTP server. `tokenizer` is None if prompts are sent as text or as chats."""

    def __init__(
        self,
        base_url: str,
        concurrency: int,
        tokenizer: Any = None,
        reporter: Reporter | None = None,
        read_timeout_s: float | None = None,
    ) -> None:
        """Prepare for at most `concurrency` connections at once; nothing is sent yet."""
        self.concurrency = concurrency
        self.tokenizer = tokenizer
        self.usage = Usage()
        reporter = reporter or Reporter("server")
        self._client = ServerClient(base_url, concurrency, read_timeout_s, reporter.info)
        self._connection = ServerConnection(self._client)
        self._portal = self._connection.portal
        self._dialect = Dialect(self._client, reporter, tokenizer)

    @classmethod
    def open(cls, config: EngineConfig, reporter: Reporter | None = None) -> "ServerEngine":
        """Connect to `config.base_url` and find out what it serves and which requests it accepts."""
        assert config.base_url is not None
        engine = cls(config.base_url, config.concurrency, reporter=reporter)
        dialect = engine._dialect
        try:
            engine._portal.call(dialect.choose_model, config.model)
            dialect.load_tokenizer(config)
            engine._portal.call(dialect.find_abilities)
        except BaseException:
            engine.close()
            raise
        engine.tokenizer = dialect.tokenizer
        return engine

    def close(self) -> None:
        """Cancel the requests in flight and close the connections."""
        self._connection.close()

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion | Failure]:
        """Yield one completion per index of each request, in any order, as they finish, or a failure.

        A request is read when fewer than `concurrency` are in flight; while `requests` blocks, finished
        completions wait. EngineError if the server keeps failing, UserError if it refuses whatever is asked.
        """

        def start(call: Call) -> Future[list[Completion | Failure]]:
            return self._portal.start_task_soon(self._complete, *call, params)

        # Closed here and not by the garbage collector: what is in flight ends with this generator.
        with closing(in_flight(self._calls(requests, params), start, self.concurrency)) as finished:
            yield from blamed(result for _, results in finished for result in results)

    def _calls(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Call | Wait]:
        """Yield each request with those of its indices that one HTTP request can ask for."""
        dialect = self._dialect
        for request in requests:
            if request is LATER:
                yield Wait.FOR_RESULT
                continue
            if isinstance(request.prompt, Chat):
                self._portal.call(dialect.check_chat, bool(request.prompt.begun))
            elif not dialect.has_completions:
                raise UserError(
                    f"{self._client.url} has a chat endpoint only; use a chat template such as gsm8k-chat or "
                    "math-chat"
                )
            # Greedy completions are all equal, and vLLM refuses to make several.
            together = params.temperature > 0 and not request.greedy and "n" not in dialect.refused_fields
            for indices in _runs(request.indices) if together else ((index,) for index in request.indices):
                yield request, indices

    async def _complete(
        self, request: Request, indices: tuple[int, ...], params: SamplingParams
    ) -> list[Completion | Failure]:
        """Return what became of consecutive indices, in as many HTTP requests as the server needs."""
        path, body, limit = self._body(request, params)
        results: list[Completion | Failure] = []
        missing, failures = indices, 0
        said = f"it leaves no room in {self._dialect.max_model_len} tokens"

        while missing:
            if limit < 1:
                error: UserError = UserError(f"the prompt is too long for the model: {said}")
                return [*results, Failure(request.key, missing, error)]
            run = next(_runs(missing))
            seed = derive_seed(request.seed) % (1 << SEED_BITS) + run[0]
            numbers = {"max_tokens": limit, "seed": seed}
            if len(run) > 1:
                numbers["n"] = len(run)
            try:
                answer = await self._dialect.ask(path, body | numbers)
            except RequestFailed as failure:
                return [*results, Doubtful(request.key, missing, EngineError(str(failure)))]
            except Refused as refusal:
                if ABOUT_LENGTH.search(refusal.reason):
                    limit //= 2  # the prompt's length is unknown here, so halve until it fits
                    said = refusal.reason
                    continue
                error = self._client.error(refusal)
                if ABOUT_CONTENT.search(refusal.reason):
                    return [*results, Failure(request.key, missing, error)]
                if refusal.status in PROMPT_STATUS:
                    return [*results, Doubtful(request.key, missing, error)]
                raise error from None
            if run[0] == request.indices[0] and not failures:
                self.usage.prompt_tokens += answer.prompt_tokens or 0
            found, failed = self._read(request, run, answer, limit)
            results += found.values()
            missing = tuple(index for index in missing if index not in found)
            if failed:
                failures += 1
                if failures > RETRIES:
                    reason = f"{self._client.url} failed {failures} times in a row; last error: {failed}"
                    return [*results, Doubtful(request.key, missing, EngineError(reason))]
                await self._client.pause(failures, failed)
        return results

    def _body(self, request: Request, params: SamplingParams) -> tuple[str, dict[str, Any], int]:
        """Return the endpoint, the fields that do not depend on the index, and the limit of new tokens."""
        body: dict[str, Any] = {
            "temperature": 0.0 if request.greedy else params.temperature,
            "top_p": params.top_p,
            "return_token_ids": True,
            **PLAIN_SAMPLING,
        }
        if params.stop:
            body["stop"] = list(params.stop)
        prompt = request.prompt
        most = request.limit(params)
        room = self._dialect.max_model_len or most + 1
        if isinstance(prompt, Chat):
            body |= _template_fields(prompt.template_kwargs) | (ALL_TOKENS if params.special_tokens else {})
            body["messages"] = [{"role": role, "content": content} for role, content in prompt.turns]
            if prompt.begun:
                body["messages"].append({"role": "assistant", "content": prompt.begun})
                body |= CONTINUE_TURN
            return "/chat/completions", body, min(most, room - 1)
        body |= ALL_TOKENS | {"prompt": prompt if isinstance(prompt, str) else list(prompt)}
        if params.stop_token_ids:
            body["stop_token_ids"] = list(params.stop_token_ids)
        if not isinstance(prompt, str) and self._dialect.max_model_len is not None:
            room = self._dialect.max_model_len - len(prompt) + 1
        return "/completions", body, min(most, room - 1)

    def _read(
        self, request: Request, run: tuple[int, ...], answer: Answer, limit: int
    ) -> tuple[dict[int, Completion | Failure], str]:
        """Return what became of the indices `run`, without those that failed, and why these did."""
        if len(answer.choices) < len(run):
            self._dialect.leave_out("n")
        if len(answer.choices) > len(run):
            self._dialect.warn_once("the server gives more completions than asked for; the rest is unused")
        found: dict[int, Completion | Failure] = {}
        failed = ""
        for index, choice in zip(run, answer.choices, strict=False):
            reason = self._client.cleaned(choice.reason)
            if choice.finish == "failed":
                failed = reason
            elif choice.finish == "filtered":
                error = EngineError(f"the server filtered the completion ({reason})")
                found[index] = Failure(request.key, (index,), error)
            else:
                found[index] = self._completion(request, index, choice, answer, limit)
        return found, failed

    def _completion(
        self, request: Request, index: int, choice: Choice, answer: Answer, limit: int
    ) -> Completion:
        """Return a choice as a completion; `limit` is the number of tokens that were asked for.

        A finish reason that is unknown or missing means "length" at the limit, else "stop".
        """
        total = answer.completion_tokens  # a sum over all choices
        if choice.num_tokens is not None:
            num_tokens = choice.num_tokens
        elif len(answer.choices) == 1 and total is not None:
            num_tokens = total
        elif self.tokenizer is not None:
            text = (choice.reasoning or "") + choice.text
            ids = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
            num_tokens = len(ids) + (choice.finish != "length" and len(ids) < limit)
        elif total is not None:  # more choices than were asked for: an estimate
            sizes = [len(other.text) + len(other.reasoning or "") for other in answer.choices]
            size = len(choice.text) + len(choice.reasoning or "")
            num_tokens = round(total * size / max(sum(sizes), 1))
        else:
            raise EngineError(f"{self._client.url} no longer reports how many tokens its completions have")
        finish = choice.finish
        if finish == "unknown":
            finish = "length" if num_tokens >= limit else "stop"
        if not choice.text and choice.reasoning is None:
            self._dialect.warn_once("an answer of the server is empty; an empty solution is wrong")
        self.usage.generated_tokens += num_tokens
        ids = choice.token_ids
        return Completion(request.key, index, choice.text, num_tokens, finish, choice.reasoning, ids)


def _template_fields(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that give a server options of the chat template.

    The effort of the reasoning also has a field of its own in OpenAI's API, which vLLM reads for gpt-oss.
    """
    fields: dict[str, Any] = {"chat_template_kwargs": dict(kwargs)} if kwargs else {}
    if "reasoning_effort" in kwargs:
        fields["reasoning_effort"] = kwargs["reasoning_effort"]
    return fields


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
