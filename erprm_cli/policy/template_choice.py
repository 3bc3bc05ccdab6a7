"""The template of a run: the one that --template names, or one that suits the model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from erprm_cli import shipped
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.files import read_json
from erprm_cli.models.chat_template import reads_date
from erprm_cli.models.folder import CARD
from erprm_cli.models.names import find_model
from erprm_cli.policy.prompts import render_prompt
from erprm_cli.policy.templates import PolicyTemplate, dated, load_template
from erprm_cli.terminal.reporter import Reporter

CHAT, PLAIN = "math-chat", "math"  # for models of unknown making: the answer in a box, as most were trained
# What the chat template of a thinking model has in it, and the template for such models.
THINKING = {"<|channel|>": "gpt-oss", "enable_thinking": "qwen3", "</think>": "deepseek-r1"}


def choose_template(
    name: str | None,
    engine: EngineConfig,
    reporter: Reporter,
    chat_template_kwargs: Sequence[str] | None = None,
    steps_of: str | None = None,
    continued: str | Path | None = None,
) -> PolicyTemplate:
    """Return the template `name`, or without a name one that suits `engine.model`; report which, and why.

    `chat_template_kwargs` and `steps_of` are those of `load_template`. If the chat template asks for today's
    date, the template returned names it: that of the output `continued`, if there is one (see `dated`).

    Only the tokenizer of the model is loaded, and only if it can decide. Raises UsageError for an invalid
    template, UserError if the chat template that it needs is missing or broken.
    """
    tokenizer, reason = None, "--template"
    if name is None:
        found = _made_for(engine.model)
        if found is None:
            tokenizer = _tokenizer(engine)
            found = _suitable(engine.model, tokenizer)
        name, reason = found[0], f"{found[1]}; -t NAME chooses another"
    template = load_template(name, chat_template_kwargs, steps_of)
    if template.chat and tokenizer is None:
        tokenizer = _tokenizer(engine)
    if template.chat and tokenizer is not None:
        render_prompt(template, tokenizer, "?")
        if reads_date(tokenizer):
            template = dated(template, continued)
    reporter.info(f"template {template.name} ({reason})")
    return template


def _made_for(model: str) -> tuple[str, str] | None:
    """Return the template with which a model of erprm was trained, and why; None for other models."""
    if model == shipped.TINY:
        return "tiny", "made for the model tiny"
    try:
        trained_with = read_json(Path(shipped.resolve(model)) / CARD)["settings"]["template"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if trained_with not in shipped.names("policy"):
        raise UsageError(
            f"{model} was trained with the template {trained_with!r}, which is not a shipped one",
            remedy="give its file with --template",
        )
    return trained_with, f"{model} was trained with it"


def _suitable(model: str, tokenizer: Any) -> tuple[str, str]:
    """Return a template for a model with this tokenizer (None: unknown), and why."""
    if tokenizer is None:
        return CHAT, f"no tokenizer of {model} is here, and most served models are chat models"
    own = getattr(tokenizer, "chat_template", None)
    if own is None:
        return PLAIN, f"{model} has no chat template, so it is taken for a base model"
    for mark, name in THINKING.items():
        if mark in str(own):
            return name, f"the chat template of {model} has {mark!r}, the mark of a thinking model"
    return CHAT, f"{model} has a chat template"


def _tokenizer(engine: EngineConfig) -> Any:
    """Return the tokenizer of the model; None if it is served and its tokenizer cannot be loaded here."""
    is_served = engine.base_url is not None
    try:
        find_model(engine.model, engine.revision)  # first: what is nowhere needs no import of torch
        from erprm_cli.models.loading import load_tokenizer

        return load_tokenizer(
            engine.model,
            revision=engine.revision,
            trust_remote_code=engine.trust_remote_code,
            is_optional=is_served,
        )
    except (ModuleNotFoundError, UserError):
        if is_served:
            return None
        raise
