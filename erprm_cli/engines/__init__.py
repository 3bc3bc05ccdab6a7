"""The engine boundary: requests in as they are read, completions out as they finish, in any order.

An engine keeps itself full: it draws from the iterator of requests whenever it has room, never all of it
at once, and yields each completion when it is done.
"""

import hashlib
import sys
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """Completions wanted of one prompt.

    `indices` says which of the prompt's completions: 0 .. n-1, or what is missing of them. `prompt` is text,
    or token ids that the model continues as they are. Equal (seed, index) give an equal completion.
    """

    key: Hashable
    prompt: str | tuple[int, ...]
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
    """

    prompt_tokens: int = 0
    generated_tokens: int = 0
    too_long: int = 0

    def rate(self, seconds: float) -> str:
        """Return the generated tokens and their rate, for a summary."""
        return f"{self.generated_tokens:,} tokens, {self.generated_tokens / max(seconds, 1e-9):,.0f}/s"


class Engine(Protocol):
    """A model that completes prompts."""

    tokenizer: Any  # transformers' tokenizer of the model
    usage: Usage

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        """Yield one completion per index of each request, in any order, as they finish."""
        ...

    def close(self) -> None:
        """Free the model and end what runs for it."""
        ...


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part and on nothing else (not on Python's hash seed)."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def made_with(model: Any, name: str) -> dict[str, Any]:
    """Return what a sidecar tells of an engine, or scorer, called `name`: versions and the model's commit."""
    libraries = ("torch", "transformers", "vllm")
    versions = {library: sys.modules[library].__version__ for library in libraries if library in sys.modules}
    commit = getattr(getattr(getattr(model, "model", None), "config", None), "_commit_hash", None)
    return {"engine": name, "commit": commit, **versions}


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Which model, where and how: the flags that all engines share."""

    model: str
    engine: str = "auto"  # auto, transformers
    dtype: str = "auto"
    batch_size: int = 0  # completions in flight; 0 lets the engine choose
    revision: str | None = None
    trust_remote_code: bool = False


def open_engine(config: EngineConfig) -> Engine:
    """Load the model behind the engine that `config` names."""
    from erprm_cli.engines.transformers_engine import TransformersEngine

    return TransformersEngine.load(config)
