"""An engine that only counts: what a run would ask for, with --dry-run."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from erprm_cli.engines.base import LATER, Chat, Completion, Request, SamplingParams, Usage, encode
from erprm_cli.engines.config import EngineConfig
from erprm_cli.rows.row import Row


@dataclass(slots=True)
class Asked:
    """What was asked for. Prompts are counted once per request, as with a prefix cache."""

    requests: int = 0
    completions: int = 0
    too_long: int = 0  # completions for which the context of the model has no room
    prompt_tokens: int | None = 0  # None: the tokenizer is the server's
    max_generated_tokens: int = 0  # if every completion used its limit


class DryEngine:
    """Answers every request with empty completions, so that all else runs as it would: resuming, sharing."""

    def __init__(self, config: EngineConfig) -> None:
        """Load the tokenizer and the configuration of the model; a server's model is not looked at."""
        self.usage = Usage()
        self.asked = Asked()
        self.tokenizer: Any = None
        self.size: Row = {}
        self._context: int | None = None
        if config.base_url is not None:
            self.asked.prompt_tokens = None
            return
        from erprm_cli.models import loading
        from erprm_cli.models.size import model_size

        options: dict[str, Any] = {
            "revision": config.revision,
            "trust_remote_code": config.trust_remote_code,
        }
        self.tokenizer = loading.load_tokenizer(config.model, **options)
        size = model_size(config.model, **options)
        dtype = loading.pick_dtype(config.dtype, loading.pick_device())
        self._context = config.max_model_len or size.max_tokens
        self.size = size.row(dtype)

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion]:
        """Yield one empty, unfinished completion per index of each request."""
        for request in requests:
            if request is LATER:
                continue
            self._count(request, request.limit(params))
            for index in request.indices:
                yield Completion(request.key, index, "", 0, "length", token_ids=())

    def close(self) -> None:
        """Free nothing."""

    def plan(self) -> Row:
        """Return the counts, and the size of the model."""
        return asdict(self.asked) | self.size

    def _count(self, request: Request, limit: int) -> None:
        asked, number = self.asked, len(request.indices)
        asked.requests += bool(number)
        asked.completions += number
        if self.tokenizer is not None and not isinstance(request.prompt, Chat):
            length = len(encode(self.tokenizer, request.prompt))
            if self._context is not None:
                limit = max(0, min(limit, self._context - length))
            asked.prompt_tokens = (asked.prompt_tokens or 0) + length * bool(number and limit)
            asked.too_long += number * (limit == 0)
        asked.max_generated_tokens += limit * number
