"""Render a tokenizer's chat template: in one way, with one-line errors, for policies and PRMs."""

from collections.abc import Sequence
from typing import Any

from erprm_cli.errors import UserError
from erprm_cli.models.chat_worker import render

Turn = dict[str, str]  # role, content


def render_chat(
    tokenizer: Any, turns: Sequence[Turn], *, today: str, needs: str, remedy: str = "", **options: Any
) -> str:
    """Return the text of a chat. `today` is the ISO date for a template that asks for the date.

    Raises UserError if there is no chat template (`needs` begins the message, `remedy` says what else to do),
    or if it fails: it is broken, refuses these turns, tries to leave Jinja's sandbox or takes too long.
    """
    name = getattr(tokenizer, "name_or_path", "the server's model")
    if getattr(tokenizer, "chat_template", None) is None and "chat_template" not in options:
        raise UserError(
            f"{needs}, but {name} has no chat template; {remedy}save the model's as chat_template.jinja in "
            "its folder"
        )
    return render(tokenizer, turns, today=today, **options)


def reads_date(tokenizer: Any) -> bool:
    """Return whether the chat template of a tokenizer asks for the date."""
    return "strftime_now" in str(getattr(tokenizer, "chat_template", None))
