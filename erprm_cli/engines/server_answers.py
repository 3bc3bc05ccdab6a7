"""What servers answer: completions, finish reasons, token counts, lists of models and errors.

Servers and gateways that speak OpenAI's API differ in the details, so everything is read tolerantly: a count
may be a float or text, a content may be a list of parts, a field may be null. What cannot be understood is
unknown (None); it is never guessed. docs/gpus.md lists what is understood.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from erprm_cli.rows.schema import REASONING_NAMES

Finish = Literal["stop", "length", "failed", "filtered", "unknown"]

# Finish reasons of OpenAI, vLLM, SGLang, llama.cpp, TGI, Ollama, Gemini, Anthropic, Mistral, Cohere,
# DeepSeek, Zhipu and Bedrock, in lower case.
FINISH_REASONS: dict[Finish, str] = {
    "stop": "stop stopped eos eos_token stop_sequence stop_token end end_turn complete completed done",
    "length": "length max_tokens max_length max_new_tokens max_output_tokens model_length limit repetition "
    "model_context_window_exceeded context_length_exceeded error_limit",
    "failed": "abort aborted cancel cancelled canceled user_cancel error timeout network_error load other "
    "insufficient_system_resource",
    "filtered": "content_filter content_filtered safety recitation blocklist prohibited_content spii "
    "sensitive refusal guardrail_intervened error_toxic",
}
FINISHES: dict[str, Finish] = {
    word: finish for finish, words in FINISH_REASONS.items() for word in words.split()
}
MAX_COUNT = 10**9  # tokens, or the number of a choice; more is not a count
MAX_MODELS = 10_000  # in a list of models; the rest is not read
MAX_NAME = 500  # characters of a model's name
TEXT_PARTS = ("text", "output_text", None)  # types of the parts of a content that are the answer

# A prompt, or prompt and max_tokens together, that the model's context cannot hold.
ABOUT_LENGTH = re.compile(
    r"context.?(length|window|size|limit)|model.?len|n_ctx"  # OpenAI, vLLM, SGLang, llama.cpp, Mistral
    r"|(prompt|input|message|request)s?\b[^.]{0,40}\b(is|are) too (long|large)\b"  # Anthropic, Bedrock
    r"|(input|prompt) (token|length)|inputs?\W+(tokens|must have less than)"  # Gemini, OpenAI, TGI, Alibaba
    r"|max_(new_|completion_)?tokens\W+(is too large|must be (<|less)|value)|max_tokens: \d+ >"  # output
    r"|maximum (prompt|input) length|reduce the length|model token limit"  # xAI, Groq, Moonshot
    r"|(too many|exceeds? the maximum number of) tokens",
    re.IGNORECASE,
)
# A prompt that a moderation refuses (Azure, OpenRouter, Bedrock, Alibaba).
ABOUT_CONTENT = re.compile(
    r"content.?(filter|management|polic)|moderation|flagged|guardrail|data_inspection|prohibited_content"
    r"|(inappropriate|sensitive) content",
    re.IGNORECASE,
)
ABOUT_MODEL = re.compile(r"model\b.*\b(not found|not exist|unknown|not available)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Choice:
    """One completion. `num_tokens` is None if the server does not report it for this choice alone."""

    index: int
    text: str
    finish: Finish
    reason: str  # why it failed or was filtered, in the server's words
    num_tokens: int | None
    reasoning: str | None  # the model's reasoning, if it is in a field or part of its own
    token_ids: tuple[int, ...] | None = None  # if the server sends them: vLLM, with return_token_ids


@dataclass(frozen=True, slots=True)
class Answer:
    """The completions of one prompt; the counts are None if the server does not report them."""

    choices: list[Choice]  # at least one, by index
    prompt_tokens: int | None
    completion_tokens: int | None  # of all choices together


@dataclass(frozen=True, slots=True)
class ServedModel:
    id: str
    root: str | None = None  # vLLM: the folder or Hub name behind the name
    max_model_len: int | None = None  # vLLM, SGLang: tokens of prompt and completion together


def read_json(content: bytes) -> Any:
    """Return the value of a JSON text; ValueError if it is not JSON.

    A lone surrogate, which is half of a character that a server has cut, becomes U+FFFD.
    """
    try:
        return msgspec.json.decode(content)
    except ValueError:  # msgspec accepts neither lone surrogates nor broken UTF-8
        value = json.loads(content.decode("utf-8", "replace"))
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


def read_answer(value: Any) -> Answer:
    """Return the completions in an answer; ValueError if there are none."""
    found = value.get("choices") if isinstance(value, dict) else None
    choices = [choice for choice in found if isinstance(choice, dict)] if isinstance(found, list) else []
    if not choices:
        raise ValueError("no choices in it")
    read = sorted(
        (_choice(choice, position) for position, choice in enumerate(choices)), key=lambda one: one.index
    )
    counts = value.get("usage")
    counts = counts if isinstance(counts, dict) else {}
    completion_tokens = _count(counts.get("completion_tokens"))
    if completion_tokens == 0 and any(choice.text or choice.reasoning for choice in read):
        completion_tokens = None
    return Answer(read, _count(counts.get("prompt_tokens")) or None, completion_tokens)


def read_models(value: Any) -> list[ServedModel]:
    """Return the models in a list of models; ValueError if it is not such a list."""
    found = value
    if isinstance(value, dict):
        found = value.get("models") if value.get("data") is None else value["data"]
    if not isinstance(found, list):
        raise ValueError("not a list of models")
    models = []
    for entry in found[:MAX_MODELS]:
        fields = entry if isinstance(entry, dict) else {"id": entry}
        name, root = fields.get("id"), fields.get("root")
        if isinstance(name, str) and len(name) <= MAX_NAME:
            length = _count(fields.get("max_model_len")) or None
            models.append(ServedModel(name, root if isinstance(root, str) else None, length))
    return models


def error_in(value: Any) -> tuple[int | None, str] | None:
    """Return (status, explanation) of an error that is sent with status 200, or None if it is not one."""
    if not isinstance(value, dict):
        return None
    error = value.get("error") or (value if value.get("object") == "error" else None)
    if not error:
        return None
    code = _count(error.get("code")) if isinstance(error, dict) else None
    return code if code and 400 <= code < 600 else None, explanation(error)


def explanation(value: Any) -> str:
    """Return all text of an error, whatever its form, except what it repeats of the request."""
    return " ".join(_texts(value))


def finish_of(reason: Any) -> Finish:
    """Return what a finish reason means.

    >>> [finish_of(reason) for reason in ("eos", "FinishReason.MAX_TOKENS", "content_filter: SAFETY", None)]
    ['stop', 'length', 'filtered', 'unknown']
    """
    word = reason.partition(":")[0].rpartition(".")[2].strip() if isinstance(reason, str) else ""
    return FINISHES.get(word.lower().replace("-", "_").replace(" ", "_"), "unknown")


def _choice(fields: dict[str, Any], position: int) -> Choice:
    message = fields.get("message")
    message = message if isinstance(message, dict) else {}
    content = message.get("content") if message else fields.get("text")
    text, thoughts = _content(content)
    reasoning = thoughts or _reasoning(message) or None
    error, reason = fields.get("error"), fields.get("finish_reason")
    finish = "failed" if error else finish_of(reason)
    said = explanation(error) if error else f"finish_reason {reason}"
    ids = _token_ids(fields.get("token_ids"))
    if ids is not None and not ids and (text or reasoning):
        ids = None
    num_tokens = None if ids is None else len(ids)
    index = _count(fields.get("index"))
    return Choice(position if index is None else index, text, finish, said, num_tokens, reasoning, ids)


def _token_ids(value: Any) -> tuple[int, ...] | None:
    """Return a list of token ids, or None if it is not one."""
    is_list = isinstance(value, list) and all(isinstance(token, int) and token >= 0 for token in value)
    return tuple(value) if is_list else None


def _content(content: Any) -> tuple[str, str]:
    """Return the text of a content, and that of its parts that are the model's reasoning."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else "", ""
    parts = [part if isinstance(part, dict) else {"text": part} for part in content]
    texts = (_text(part.get("text")) for part in parts if part.get("type") in TEXT_PARTS)
    thoughts = (
        _reasoning(part) or _text(part.get("text")) for part in parts if part.get("type") in REASONING_NAMES
    )
    return "".join(texts), "".join(thoughts)


def _reasoning(fields: dict[str, Any]) -> str:
    """Return the first text in the fields for reasoning of a message or a part; others repeat it."""
    return next(filter(None, (_text(fields.get(name)) for name in REASONING_NAMES)), "")


def _text(value: Any) -> str:
    """Return a text, or the texts of a list of parts together; empty if it is neither."""
    if isinstance(value, list):
        return "".join(_text(part.get("text") if isinstance(part, dict) else part) for part in value)
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    """Return a number of tokens, which may be given as a float or as text; None if it is not one."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if 0 <= number <= MAX_COUNT else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            if name not in ("input", "body", "url", "object"):
                yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str):
        yield value
