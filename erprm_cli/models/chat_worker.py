"""Chat templates rendered in a worker process: a template is a program, and comes with the model.

Jinja's sandbox keeps a template away from files and Python's objects, but not from a loop without end or a
text of gigabytes, such as `{{ 'x' * 10 ** 10 }}`. One process renders all chats; a template that takes too
much time or memory for one chat ends it, and is an error.
"""

import json
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import date
from functools import cache
from typing import Any

from erprm_cli.errors import UserError
from erprm_cli.worker_process import WorkerProcess, command_of, serve

CPU_LIMIT_S = 5.0  # processor time per chat; a usual one takes less than a millisecond
WALL_LIMIT_S = 60.0
MEMORY_LIMIT_BYTES = 2 << 30  # address space
MAX_CHARS = 1 << 24  # of a rendered chat
COMMAND = command_of("erprm_cli.models.chat_worker")

_lock = threading.Lock()


def render(
    tokenizer: Any, turns: Sequence[dict[str, str]], *, today: str | None = None, **options: Any
) -> str:
    """Return what `tokenizer.apply_chat_template` returns as text, within limits on time and size.

    `today` is the ISO date for a template that asks for the date. The other options are passed on, as JSON. A
    tokenizer whose class renders chats in its own way, without Jinja, does it in this process. Raises
    UserError if the template fails or exceeds the limits.
    """
    from transformers import PreTrainedTokenizerBase

    name = tokenizer.name_or_path
    if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:
        return str(tokenizer.apply_chat_template(list(turns), tokenize=False, **options))
    fields = {
        **tokenizer.special_tokens_map,
        **options,
        "today": today,
        "conversations": [list(turns)],
        "chat_template": options.get("chat_template") or tokenizer.get_chat_template(),
    }
    with _lock:
        try:
            reply = json.loads(_worker().request(json.dumps(fields, default=str).encode()))
        except (TimeoutError, ConnectionError):
            _worker().close()
            _worker.cache_clear()
            limits = f"{CPU_LIMIT_S:g} s or {MEMORY_LIMIT_BYTES >> 30} GB"
            raise UserError(
                f"the chat template of {name} was stopped: it takes more than {limits} for a chat"
            ) from None
    if "error" in reply:
        raise UserError(f"the chat template of {name} failed: {reply['error']}")
    return str(reply["text"])


@cache
def _worker() -> WorkerProcess:
    return WorkerProcess(
        COMMAND, "the renderer of chat templates", cpu_limit_s=CPU_LIMIT_S, wall_limit_s=WALL_LIMIT_S
    )


def prepare() -> Callable[[bytes], bytes]:
    """Return the function that renders a request; it runs in the worker."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # rendering needs no torch, which loads slowly
    from transformers.utils.chat_template_utils import render_jinja_template

    def answer(line: bytes) -> bytes:
        try:
            fields = json.loads(line)
            if (today := fields.pop("today")) is not None:
                fields["strftime_now"] = date.fromisoformat(today).strftime
            texts: Any = render_jinja_template(**fields)[0]
            text = texts[0]
            if len(text) > MAX_CHARS:
                raise ValueError(f"a text of more than {MAX_CHARS:,} characters")
            return json.dumps({"text": text}).encode()
        except Exception as error:  # whatever a template does; it is reported by the command
            return json.dumps({"error": f"{type(error).__name__}: {error}"[:1000]}).encode()

    return answer


if __name__ == "__main__":
    serve(prepare, cpu_limit_s=CPU_LIMIT_S, memory_limit_bytes=MEMORY_LIMIT_BYTES)
