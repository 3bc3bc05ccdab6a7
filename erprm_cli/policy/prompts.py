"""The input of a policy: the text of a prompt, its token ids, and the text that ends a solution."""

from typing import Any

from erprm_cli.engines.base import Chat, Prompt
from erprm_cli.errors import UserError
from erprm_cli.models.chat_worker import render
from erprm_cli.policy.reasoning import is_opened
from erprm_cli.policy.templates import PolicyTemplate

ANSWER = "<<answer>>"  # the assistant's turn when a chat template is rendered to see how turns end


def make_prompt(template: PolicyTemplate, tokenizer: Any, problem: str, begun: str = "") -> Prompt:
    """Return the prompt for an engine with this tokenizer, followed by `begun`, the start of a solution.

    It is token ids. Without a tokenizer (a server), it is text, or the turns of a chat, which the server
    renders.
    """
    if tokenizer is None and template.chat:
        turns = tuple((turn["role"], turn["content"]) for turn in _turns(template, problem))
        return Chat(turns, begun, template.chat_template_kwargs)
    return encode_prompt(template, tokenizer, render_prompt(template, tokenizer, problem) + begun)


def render_prompt(template: PolicyTemplate, tokenizer: Any, problem: str) -> str:
    """Return the text that the policy continues with its solution.

    With `template.chat`, it is the model's own chat template up to the start of the assistant's turn, which
    needs the tokenizer.
    """
    if not template.chat:
        return template.fill(problem)
    return _chat(tokenizer, template, _turns(template, problem), add_generation_prompt=True)


def opens_reasoning(template: PolicyTemplate, tokenizer: Any) -> bool | None:
    """Return whether prompts end with the mark that opens the reasoning; None if only the server knows."""
    if template.marks is None:
        return False
    if template.chat and tokenizer is None:
        return None
    return is_opened(render_prompt(template, tokenizer, "?"), template.marks)


def encode_prompt(template: PolicyTemplate, tokenizer: Any, text: str) -> str | tuple[int, ...]:
    """Return the token ids of a rendered prompt, with or without the start of a solution after it.

    A chat template writes its own special tokens. A plain prompt gets those of the tokenizer, but not an end
    of sequence. Without a tokenizer, the text is returned.
    """
    if tokenizer is None:
        return text
    ids: list[int] = tokenizer(text, add_special_tokens=not template.chat, verbose=False).input_ids
    if ids and ids[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token):
        ids.pop()
    return tuple(ids)


def render_end(template: PolicyTemplate, tokenizer: Any) -> str:
    """Return the text that ends a solution: the end of the assistant's turn, or the end of sequence."""
    end = ""
    if template.chat:
        turns = [*_turns(template, "?"), {"role": "assistant", "content": ANSWER}]
        end = _chat(tokenizer, template, turns).partition(ANSWER)[2].rstrip()
    end = end or tokenizer.eos_token
    if not end:
        raise UserError(f"{tokenizer.name_or_path} has no end-of-sequence token, so a solution cannot end")
    return end


def _turns(template: PolicyTemplate, problem: str) -> list[dict[str, str]]:
    system = [{"role": "system", "content": template.system}] if template.system else []
    return [*system, {"role": "user", "content": template.fill(problem)}]


def _chat(tokenizer: Any, template: PolicyTemplate, turns: list[dict[str, str]], **options: Any) -> str:
    if getattr(tokenizer, "chat_template", None) is None:
        name = getattr(tokenizer, "name_or_path", "the server's model")
        plain = template.name.removesuffix("-chat") if template.name.endswith("-chat") else "math"
        raise UserError(
            f"the template {template.name} is for chat models, but {name} has no chat template; "
            f"use a plain template such as {plain}"
        )
    return render(tokenizer, turns, **template.chat_template_kwargs, **options)
