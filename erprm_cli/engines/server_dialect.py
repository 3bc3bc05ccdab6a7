"""Which requests a server understands, found out by asking it.

OpenAI's API has many dialects. At the start a few requests for one token each show which endpoints there are,
which fields are accepted and what is counted; a field that is refused later is left out from then on.
"""

import difflib
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.server_answers import ABOUT_LENGTH, ABOUT_MODEL, Answer, ServedModel
from erprm_cli.engines.server_client import Refused, RequestFailed, ServerClient, suggested_url
from erprm_cli.errors import UserError
from erprm_cli.models.names import find_model
from erprm_cli.shipped import resolve
from erprm_cli.terminal.reporter import Reporter

# Fields that a server may refuse; they are then left out. Those of PLAIN_SAMPLING undo what a server would do
# to the policy's distribution by default (vLLM takes top_k and others from generation_config.json, llama.cpp
# has defaults of its own).
PLAIN_SAMPLING = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
ALL_TOKENS = {"skip_special_tokens": False}  # of vLLM and SGLang: the text as the model wrote it
EXTENSIONS = ("return_token_ids", *ALL_TOKENS, *PLAIN_SAMPLING)  # not in OpenAI's API
OPTIONAL = ("seed", "n", *EXTENSIONS)
# Fields that are sent only where they are needed. What it means if a server refuses them:
SPECIFIC = {
    "chat_template_kwargs": "the model's chat template does not get its options",
    "reasoning_effort": "the model's own effort of reasoning is used",
    "skip_special_tokens": "special tokens and the marks of the reasoning may be missing in the completions",
    "stop_token_ids": "a solution may run on after the assistant's turn",
}
CONTINUE_TURN = {"continue_final_message": True, "add_generation_prompt": False}
LIMITS = ("max_tokens", "max_completion_tokens")  # names of one field; newer models of OpenAI need the 2nd
INVALID_STATUS = (400, 422)
NO_ENDPOINT = (404, 405, 410, 501)
PROBE = "Question: What is 2 + 3?\nAnswer:\nStep 1: 2 + 3 = "
SHOWN_MODELS = 5


async def find_served(client: ServerClient, name: str, reporter: Reporter, flag: str) -> ServedModel | None:
    """Return the served model `name`, which `flag` gave; UserError lists served models if it is not one.

    A list that cannot be had or read is reported, and None returned: later answers show whether the name is
    right.
    """
    names = {name, resolve(name)}
    reason = "it is empty"
    try:
        served = await client.models()
    except Refused as refusal:
        served, reason = [], refusal.reason
    except RequestFailed as error:
        served, reason = [], error.reason
    if not served:
        reporter.info(f"note: cannot use the server's list of models ({reason}); {flag} is not checked")
        return None
    for model in served:
        if {model.id, model.id.removeprefix("models/"), model.root} & names:
            return model
    ids = [model.id for model in served]
    known = ", ".join(ids)
    if len(ids) > SHOWN_MODELS:
        nearest = difflib.get_close_matches(name, ids, SHOWN_MODELS, cutoff=0.0)
        known = f"{len(ids):,} models (the nearest names: {', '.join(nearest)})"
    raise UserError(f"{client.url} serves {known}, not {name}; set {flag} to a served model")


class Dialect:
    """What is known of a server. `tokenizer` is None if prompts are sent as text or as chats."""

    def __init__(self, client: ServerClient, reporter: Reporter, tokenizer: Any = None) -> None:
        """Suppose that the server understands everything until it is asked."""
        self.client, self.reporter, self.tokenizer = client, reporter, tokenizer
        self.model = ""
        self.max_model_len: int | None = None
        self.refused_fields: set[str] = set()  # of OPTIONAL
        self.limit_name = LIMITS[0]
        self.has_models = self.has_completions = True  # the endpoints exist and can be used
        self._checked_chats: set[bool] = set()  # known to work: new answers (False), continued ones (True)
        self._warned: set[str] = set()

    async def choose_model(self, name: str) -> None:
        """Find the served model `name`; see `find_served`."""
        served = await find_served(self.client, name, self.reporter, "--model")
        self.has_models = served is not None
        self.model = name if served is None else served.id
        self.max_model_len = None if served is None else served.max_model_len

    def load_tokenizer(self, config: EngineConfig) -> None:
        """Load the tokenizer of --model, or note that prompts are sent as text."""
        try:
            find_model(config.model, config.revision)  # first: what is nowhere needs no import of torch
            from erprm_cli.models.loading import load_tokenizer

            self.tokenizer = load_tokenizer(
                config.model,
                revision=config.revision,
                trust_remote_code=config.trust_remote_code,
                is_optional=True,
            )
        except ModuleNotFoundError as error:
            self._send_text(f"{error.name} is not installed")
        except UserError:
            self._send_text(f"no local tokenizer for {config.model!r}")

    async def find_abilities(self) -> None:
        """Complete one token, twice, to see which requests the server accepts."""
        try:
            answer = await self._ask_first("/completions", self._probe(prompt=PROBE, n=2, **ALL_TOKENS))
        except Refused as refusal:
            is_absent = refusal.status in NO_ENDPOINT and not ABOUT_MODEL.search(refusal.reason)
            if not is_absent and "chat/completions" not in refusal.reason:
                raise self.client.error(refusal) from None
            self.has_completions = False
            self.tokenizer = None  # the chat endpoint does not accept token ids
            if not self.has_models:
                await self._check_endpoints()
            return
        if self.tokenizer is not None:
            await self._check_tokenizer(answer.prompt_tokens)
        self._learn(answer)

    async def check_chat(self, is_continued: bool) -> None:
        """Check, once, that the server chats, and continues an assistant's turn if `is_continued`.

        UserError if not.
        """
        try:
            await self._check_new_chats()
            if is_continued and True not in self._checked_chats:
                await self._check_continuing()
                self._checked_chats.add(True)
        except Refused as refusal:
            raise self.client.error(refusal) from None

    async def ask(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Return the answer to `body`; a field that the server refuses by name is left out from then on."""
        while True:
            sent = {"model": self.model} | {
                name: value for name, value in body.items() if name not in self.refused_fields
            }
            if "max_tokens" in sent:
                sent[self.limit_name] = sent.pop("max_tokens")
            try:
                return await self.client.complete(path, sent)
            except Refused as refusal:
                if refusal.status not in INVALID_STATUS or ABOUT_LENGTH.search(refusal.reason):
                    raise
                named = [name for name in (*OPTIONAL, *SPECIFIC) if re.search(rf"\b{name}\b", refusal.reason)]
                field = next((name for name in named if name in sent), None)
                if field is not None:
                    self.leave_out(field, f"refuses {field} ({refusal.reason})")
                elif LIMITS[0] in sent and LIMITS[1] in refusal.reason:
                    self.limit_name = LIMITS[1]
                else:
                    raise

    def leave_out(self, field: str, reason: str = "gives one completion per request") -> None:
        """Send `field` no more, and report what that means."""
        if field in self.refused_fields:
            return
        self.refused_fields.add(field)
        if field == "seed":
            self.reporter.warn(f"the server {reason}: results will not be reproducible")
        if field == "n":
            self.reporter.info(f"the server {reason}, so each completion is a request of its own")
        if field in SPECIFIC:
            self.reporter.warn(f"the server {reason}: {SPECIFIC[field]}")

    def warn_once(self, message: str) -> None:
        """Print a warning, unless it has been printed."""
        if message not in self._warned:
            self._warned.add(message)
            self.reporter.warn(message)

    async def _ask_first(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Return the answer to the first request at an endpoint.

        If it is refused and no field is named, it is asked again without the extensions of OpenAI's API, and
        then without all optional fields; what helped is left out from then on.
        """
        try:
            return await self.ask(path, body)
        except Refused as refusal:
            if refusal.status not in INVALID_STATUS or "chat/completions" in refusal.reason:
                raise
            first = refusal
        known = set(self.refused_fields)
        for fields in (EXTENSIONS, OPTIONAL):
            self.refused_fields = known.union(fields)
            with suppress(Refused):
                answer = await self.ask(path, body)
                left_out = ", ".join(field for field in fields if field not in known)
                self.reporter.warn(
                    f"the server refuses optional fields ({first.reason}), so {left_out} are not sent"
                    + ("; results will not be reproducible" if "seed" in fields else "")
                )
                return answer
        self.refused_fields = known
        raise first

    async def _check_endpoints(self) -> None:
        """Raise UserError if the chat endpoint is missing too: then the URL is wrong."""
        try:
            await self._check_new_chats()
        except Refused as refusal:
            if refusal.status not in NO_ENDPOINT or ABOUT_MODEL.search(refusal.reason):
                raise self.client.error(refusal) from None
            raise UserError(
                f"{self.client.url} has neither /models nor /completions nor /chat/completions "
                f"({refusal.reason}); --base-url should end in /v1, such as {suggested_url(self.client.url)}"
            ) from None

    async def _check_new_chats(self) -> None:
        if False not in self._checked_chats:
            messages = [{"role": "user", "content": "Count from 1 to 9."}]
            self._learn(await self._ask_first("/chat/completions", self._probe(messages=messages, n=2)))
            self._checked_chats.add(False)

    async def _check_tokenizer(self, counted: int | None) -> None:
        """Keep the tokenizer if the server accepts token ids and counts the same number of tokens."""
        ids = self.tokenizer(PROBE).input_ids
        if counted is not None and counted != len(ids):
            self._send_text(
                f"the local tokenizer is not the server's ({len(ids)} and {counted} tokens for the same text)"
            )
            return
        try:
            await self.ask("/completions", self._probe(prompt=ids))
        except Refused as refusal:
            self._send_text(f"the server refuses token ids ({refusal.reason})")

    async def _check_continuing(self) -> None:
        """Check that the server continues an assistant's turn; UserError if not.

        A server that does not know the two flags of CONTINUE_TURN may ignore them and open a new turn. The
        prompt then has as many tokens with the flags as without.
        """
        explained = (
            f"{self.client.url} cannot continue an assistant's turn, which a rollout needs ({{}}); use a "
            "server with a completions endpoint, or with continue_final_message, such as vLLM"
        )
        begun = {"role": "assistant", "content": "1, 2, 3, 4"}
        messages = [{"role": "user", "content": "Count from 1 to 9."}, begun]
        try:
            answer = await self.ask("/chat/completions", self._probe(messages=messages, **CONTINUE_TURN))
        except Refused as refusal:
            raise UserError(explained.format(refusal.reason)) from None
        try:
            fresh = await self.ask("/chat/completions", self._probe(messages=messages))
        except Refused:
            return  # a new turn after the assistant's is refused, so the first answer continued the turn
        if answer.prompt_tokens is None or fresh.prompt_tokens is None:
            raise UserError(explained.format("it does not count prompt tokens, so this cannot be checked"))
        if answer.prompt_tokens >= fresh.prompt_tokens:
            raise UserError(explained.format("it opens a new turn"))
        messages[-1] = begun | {"content": begun["content"] + "\n\n"}
        longer = await self.ask("/chat/completions", self._probe(messages=messages, **CONTINUE_TURN))
        if longer.prompt_tokens == answer.prompt_tokens:
            self.reporter.warn(
                "the server's chat template strips a prefix's last line break, so completions may begin with "
                "one; with a tokenizer that can be loaded here (--model) prefixes are exact"
            )

    def _probe(self, **fields: Any) -> dict[str, Any]:
        body = {"max_tokens": 1, "temperature": 1.0, "seed": 0, "return_token_ids": True, **PLAIN_SAMPLING}
        return body | fields

    def _learn(self, answer: Answer) -> None:
        """See from an answer to n = 2 whether n works and whether tokens can be counted."""
        is_countable = self.tokenizer is not None or answer.choices[0].num_tokens is not None
        if len(answer.choices) < 2:
            self.leave_out("n")
        elif not is_countable:
            self.leave_out("n", "does not report the length of each of n completions")
        if not is_countable and answer.completion_tokens is None:
            raise UserError(
                f"{self.client.url} does not count tokens; set --model to one whose tokenizer can be loaded "
                "here"
            )

    def _send_text(self, reason: str) -> None:
        self.tokenizer = None
        self.reporter.info(f"note: {reason}, so prompts are sent as text, not as token ids")
