"""The engine boundary: requests in as they are read, completions out as they finish, in any order.

An engine keeps itself full: it draws from the iterator of requests whenever it has room, never all of it
at once, and yields each completion when it is done.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from erprm_cli.errors import EngineError


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt that a server writes out with its model's chat template.

    `turns` are (role, content); `begun` is what the assistant has said of its turn so far, to be continued.
    """

    turns: tuple[tuple[str, str], ...]
    begun: str = ""


Prompt = str | tuple[int, ...] | Chat


@dataclass(frozen=True, slots=True)
class Request:
    """Completions wanted of one prompt.

    `indices` says which of the prompt's completions: 0 .. n-1, or what is missing of them. `prompt` is text,
    or token ids that the model continues as they are, or for an engine without a tokenizer a chat. Equal
    (seed, index) give an equal completion.
    """

    key: Hashable
    prompt: Prompt
    indices: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after a prompt: exactly the text that follows it, without the stop."""

    key: Hashable
    index: int
    text: str
    num_tokens: int
    finish_reason: str  # "stop" or "length"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to draw tokens; temperature 0 is greedy. `max_tokens` bounds each completion."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()


@dataclass(slots=True)
class Usage:
    """Tokens so far: read as prompts (each prompt of a request once) and generated (useful ones only).

    `too_long` counts completions that are empty because the prompt fills the model's context.
    `prefix_cache_hit_rate` is the share of prompt tokens that the engine had read before, by its own count;
    null where it does not count.
    """

    prompt_tokens: int = 0
    generated_tokens: int = 0
    too_long: int = 0
    prefix_cache_hit_rate: float | None = None

    def rate(self, seconds: float) -> str:
        """Return the generated tokens and their rate, for a progress line."""
        return f"{self.generated_tokens:,} tokens, {self.generated_tokens / max(seconds, 1e-9):,.0f}/s"

    def summary(self, seconds: float) -> str:
        """Return all that is known, for the last line."""
        hits = self.prefix_cache_hit_rate
        cached = "" if hits is None else f" (prefix cache {hits:.1%})"
        return f"{self.prompt_tokens:,} prompt tokens{cached}, generated {self.rate(seconds)}"


class Engine(Protocol):
    """A model that completes prompts."""

    tokenizer: Any  # transformers' tokenizer of the model; None if only a server has it
    usage: Usage

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        """Yield one completion per index of each request, in any order, as they finish."""
        ...

    def close(self) -> None:
        """Free the model and end what runs for it."""
        ...


def generate(engine: Engine, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
    """Yield what `engine` generates; EngineError also where a process or a connection behind it goes away.

    The errors that say so are those of our own rows' reader leaving, which ends a command without a word.
    """
    try:
        yield from engine.generate(requests, params)
    except (ConnectionError, EOFError) as error:
        reason = f"{type(error).__name__} {error}".strip()
        raise EngineError(f"what runs the model has gone away ({reason})") from None


def encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Return token ids: of text with the special tokens that the tokenizer adds, BOS never twice."""
    assert not isinstance(prompt, Chat)  # made only for an engine without a tokenizer
    if not isinstance(prompt, str):
        return list(prompt)
    begun = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
    ids: list[int] = tokenizer(prompt, add_special_tokens=not begun).input_ids
    if ids:
        return ids
    beginnings = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)  # a model needs something to go on
    return [next(index for index in beginnings if index is not None)]
