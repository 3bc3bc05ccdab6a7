"""What a policy reads: the text of a prompt, its token ids, and how an answer to it ends."""

from typing import Any

from erprm_cli.engines.base import Chat, Prompt
from erprm_cli.errors import UserError
from erprm_cli.policy.templates import PolicyTemplate

ANSWER = "<<answer>>"  # stands for what the assistant says while a chat template is looked at


def make_prompt(template: PolicyTemplate, tokenizer: Any, problem: str, begun: str = "") -> Prompt:
    """Return what an engine with this tokenizer completes: the prompt, and after it `begun`.

    Without a tokenizer it is text, or for a chat template the turns, which the server then writes out.
    """
    if tokenizer is None and template.chat:
        turns = tuple((turn["role"], turn["content"]) for turn in _turns(template, problem))
        return Chat(turns, begun)
    return encode_prompt(template, tokenizer, render_prompt(template, tokenizer, problem) + begun)


def render_prompt(template: PolicyTemplate, tokenizer: Any, problem: str) -> str:
    """Return the text after which the policy writes its solution.

    With `template.chat` it is the model's own chat template up to where the assistant begins, for which the
    tokenizer must be there.
    """
    if not template.chat:
        return template.fill(problem)
    text: str = _chat(tokenizer, template)(
        _turns(template, problem), tokenize=False, add_generation_prompt=True
    )
    return text


def encode_prompt(template: PolicyTemplate, tokenizer: Any, text: str) -> str | tuple[int, ...]:
    """Return the token ids of a rendered prompt, with or without a prefix of a solution after it.

    A chat template writes its special tokens itself; a plain prompt gets the tokenizer's, but never an end
    of sequence. Without a tokenizer the text stays text.
    """
    if tokenizer is None:
        return text
    ids: list[int] = tokenizer(text, add_special_tokens=not template.chat, verbose=False).input_ids
    if ids and ids[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token):
        ids.pop()
    return tuple(ids)


def render_end(template: PolicyTemplate, tokenizer: Any) -> str:
    """Return what ends a solution: the end of the assistant's turn in a chat, else the end of sequence."""
    end = ""
    if template.chat:
        turns = [*_turns(template, "?"), {"role": "assistant", "content": ANSWER}]
        text: str = _chat(tokenizer, template)(turns, tokenize=False)
        end = text.partition(ANSWER)[2].rstrip()
    end = end or tokenizer.eos_token
    if not end:
        raise UserError(f"{tokenizer.name_or_path} has no end-of-sequence token, so no solution would end")
    return end


def _turns(template: PolicyTemplate, problem: str) -> list[dict[str, str]]:
    system = [{"role": "system", "content": template.system}] if template.system else []
    return [*system, {"role": "user", "content": template.fill(problem)}]


def _chat(tokenizer: Any, template: PolicyTemplate) -> Any:
    if getattr(tokenizer, "chat_template", None) is None:
        name = getattr(tokenizer, "name_or_path", "the server's model")
        raise UserError(
            f"the template {template.name} is a chat, but {name} has no chat template; "
            f"take a plain template, as {template.name.removesuffix('-chat')}"
        )
    return _within_the_sandbox(tokenizer)


def _within_the_sandbox(tokenizer: Any) -> Any:
    """Return what fills in the chat template: transformers renders it in Jinja's sandbox."""

    def fill(*args: Any, **kwargs: Any) -> str:
        from jinja2 import TemplateError

        try:
            text: str = tokenizer.apply_chat_template(*args, **kwargs)
        except TemplateError as error:  # a broken one, or one that reaches out of the sandbox
            raise UserError(f"the chat template of {tokenizer.name_or_path} fails: {error}") from None
        return text

    return fill
