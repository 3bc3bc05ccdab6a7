"""The engine boundary: requests in as they are read, completions out as they finish, in any order.

An engine keeps itself full: it reads from the iterator of requests whenever it has room, never all of it
at once, and yields each completion as soon as it is finished. If the next request depends on completions that
are in flight, the iterator yields LATER, and the engine reads on when it has yielded one of them.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from erprm_cli.errors import EngineError, UserError


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt that a server formats with its model's chat template.

    `turns` are (role, content); `begun` is the beginning of the assistant's turn, which is to be continued.
    `template_kwargs` are options of the chat template.
    """

    turns: tuple[tuple[str, str], ...]
    begun: str = ""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)


Prompt = str | tuple[int, ...] | Chat


@dataclass(frozen=True, slots=True)
class Request:
    """A request for completions of one prompt.

    `indices` are the numbers of the wanted completions: 0 .. n-1, or those of them that are missing. `prompt`
    is text, or token ids that are used unchanged, or a chat for an engine without a tokenizer. Equal
    (seed, index) give an equal completion. `max_tokens` bounds these completions where it is less than that
    of the sampling parameters. With `greedy`, the most probable token is taken each time. With `keep`, a
    later request of the same call may continue these completions: what is computed of them is worth keeping.
    """

    key: Hashable
    prompt: Prompt
    indices: tuple[int, ...]
    seed: int
    max_tokens: int | None = None
    greedy: bool = False
    keep: bool = False

    def limit(self, params: "SamplingParams") -> int:
        """Return the most tokens of one completion, whatever the model's context has room for."""
        return params.max_tokens if self.max_tokens is None else min(self.max_tokens, params.max_tokens)


LATER = Request("", "", (), 0)  # stands for what cannot be asked for yet


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after a prompt: exactly the text that follows it, without the stop text.

    Special tokens are in the text, except the one that ends it. `num_tokens` counts all that was generated.
    `reasoning` is what a server sends apart from the text. `token_ids` are all generated tokens, those of a
    stop text and the end token included; None if a server does not send them.
    """

    key: Hashable
    index: int
    text: str
    num_tokens: int
    finish_reason: str  # "stop" or "length"
    reasoning: str | None = None
    token_ids: tuple[int, ...] | None = field(default=None, compare=False, repr=False)  # not all servers tell


@dataclass(frozen=True, slots=True)
class Failure:
    """Completions that an engine could not make of one request, after retries.

    It is not a Completion, so that no reward can be made of it. `error` is an EngineError if the same request
    may succeed later, else a UserError.
    """

    key: Hashable
    indices: tuple[int, ...]
    error: UserError


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample tokens. Temperature 0 is greedy; `max_tokens` bounds each completion.

    Generation ends before any text in `stop`, and at the tokens `stop_token_ids`, as at the model's own end
    tokens. With `special_tokens`, a server is asked for special tokens in the answers of its chat endpoint;
    other completions always have them.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    special_tokens: bool = False


@dataclass(slots=True)
class Usage:
    """Tokens so far: of prompts (once per request) and generated (up to the end of each completion).

    `too_long` counts completions that are empty because the prompt fills the model's context.
    `prefix_cache_hit_rate` is the share of prompt tokens found in the engine's prefix cache, as the engine
    counts them; None if it does not.
    """

    prompt_tokens: int = 0
    generated_tokens: int = 0
    too_long: int = 0
    prefix_cache_hit_rate: float | None = None

    def summary(self, seconds: float) -> str:
        """Return all counts, for the summary of a run."""
        hits = self.prefix_cache_hit_rate
        cached = "" if hits is None else f" (prefix cache {hits:.1%})"
        rate = self.generated_tokens / max(seconds, 1e-9)
        return (
            f"{self.prompt_tokens:,} prompt tokens{cached}, "
            f"generated {self.generated_tokens:,} tokens, {rate:,.0f}/s"
        )


class Engine(Protocol):
    """A model that completes prompts."""

    tokenizer: Any  # transformers' tokenizer of the model; None if only the server has it
    usage: Usage

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion | Failure]:
        """Yield one completion per index of each request, in any order, as they finish, or a failure."""
        ...

    def close(self) -> None:
        """Free the model and end its processes and connections."""
        ...


def generate(
    engine: Engine, requests: Iterable[Request], params: SamplingParams
) -> Iterator[Completion | Failure]:
    """Yield what `engine` generates; EngineError if a process or a connection behind it is lost.

    Without this, a lost connection would look like a closed pipe on stdout, which ends a command silently.
    """
    try:
        yield from engine.generate(requests, params)
    except (ConnectionError, EOFError) as error:
        reason = f"{type(error).__name__} {error}".strip()
        raise EngineError(f"lost the connection to the engine ({reason})") from None


def encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Return a prompt's token ids: of text with the tokenizer's special tokens, but never with two BOS."""
    assert not isinstance(prompt, Chat)  # made only for an engine without a tokenizer
    ids = prompt
    if isinstance(prompt, str):
        has_bos = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
        ids = tokenizer(prompt, add_special_tokens=not has_bos).input_ids
    if ids:
        return list(ids)  # type: ignore[arg-type]  # not text any more
    first_tokens = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)  # a model needs at least one token
    return [next(index for index in first_tokens if index is not None)]
