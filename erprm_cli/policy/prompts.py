"""The input of a policy: the text of a prompt, its token ids, and what ends a solution."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from erprm_cli.engines.base import Chat, Prompt
from erprm_cli.errors import UserError
from erprm_cli.models.chat_template import Turn, render_chat
from erprm_cli.policy.reasoning import is_opened
from erprm_cli.policy.templates import PolicyTemplate

ANSWER = "<<answer>>"  # the assistant's turn when a chat template is rendered to see how turns end
CONTEXT_TOKENS = 8  # last tokens of a prompt that are decoded with a solution


@dataclass(frozen=True, slots=True)
class SolutionIds:
    """The token ids of a prompt and of a solution after it."""

    prompt: tuple[int, ...]
    solution: tuple[int, ...]
    token_after: Mapping[int, int]  # tokens of the solution up to a character, where a token ends there

    def up_to(self, length: int) -> tuple[int, ...] | None:
        """Return the ids of the prompt and of `length` characters; None if a token crosses that place."""
        count = self.token_after.get(length)
        return None if count is None else self.prompt + self.solution[:count]


def make_prompt(template: PolicyTemplate, tokenizer: Any, problem: str, begun: str = "") -> Prompt:
    """Return the prompt for an engine with this tokenizer, followed by `begun`, the start of a solution.

    It is token ids. Without a tokenizer (a server), it is text, or the turns of a chat, which the server
    renders.
    """
    if tokenizer is None and template.chat:
        turns = tuple((turn["role"], turn["content"]) for turn in _turns(template, problem))
        return Chat(turns, begun, template.chat_template_kwargs)
    text = render_prompt(template, tokenizer, problem)
    if tokenizer is None or not begun:
        return encode_prompt(template, tokenizer, text + begun)
    ids = encode_solution(template, tokenizer, text, begun)
    return ids.prompt + ids.solution


def render_prompt(template: PolicyTemplate, tokenizer: Any, problem: str) -> str:
    """Return the text that the policy continues with its solution.

    With `template.chat`, it is the model's own chat template up to the start of the assistant's turn, which
    needs the tokenizer.
    """
    if not template.chat:
        return template.fill(problem)
    return _render(template, tokenizer, _turns(template, problem), add_generation_prompt=True)


def opens_reasoning(template: PolicyTemplate, tokenizer: Any) -> bool | None:
    """Return whether prompts end with the mark that opens the reasoning; None if only the server knows."""
    if template.marks is None:
        return False
    if template.chat and tokenizer is None:
        return None
    return is_opened(render_prompt(template, tokenizer, "?"), template.marks)


def encode_prompt(template: PolicyTemplate, tokenizer: Any, text: str) -> str | tuple[int, ...]:
    """Return the token ids of a rendered prompt. Without a tokenizer, the text is returned.

    A chat template writes its own special tokens. A plain prompt gets those of the tokenizer, but not an end
    of sequence.
    """
    return text if tokenizer is None else _encode(tokenizer, text, not template.chat)[0]


def encode_solution(template: PolicyTemplate, tokenizer: Any, prompt: str, solution: str) -> SolutionIds:
    """Return the ids of a rendered prompt and of a solution, or its beginning, after it.

    The prompt keeps the ids that sampling starts from. The ids of the solution are those that it has in one
    text with the prompt. If a token would span the border, or if they do not decode to the solution (in some
    tokenizers a space follows a special token), they are those of the solution alone, or of the solution
    without its first space if that is what decodes to it.
    """
    before, _ = _encode(tokenizer, prompt, not template.chat)

    def readings() -> Iterator[SolutionIds]:
        ids, ends = _encode(tokenizer, prompt + solution, not template.chat)
        if ids[: len(before)] == before:
            yield _solution_ids(before, ids[len(before) :], ends[len(before) :], begin=len(prompt))
        for text in dict.fromkeys((solution, solution.removeprefix(" "))):
            yield _solution_ids(before, *_encode(tokenizer, text, False), begin=len(text) - len(solution))

    def is_exact(found: SolutionIds) -> bool:
        context = before[-CONTEXT_TOKENS:]
        return _decode(tokenizer, context + found.solution) == _decode(tokenizer, context) + solution

    ways = readings()
    usual = next(ways)
    return usual if is_exact(usual) else next(filter(is_exact, ways), usual)


def render_end(template: PolicyTemplate, tokenizer: Any) -> str:
    """Return the text that ends a solution: the end of the assistant's turn, or the end of sequence."""
    end = (_render_turn_end(template, tokenizer) if template.chat else "") or tokenizer.eos_token
    if not end:
        raise UserError(f"{tokenizer.name_or_path} has no end-of-sequence token, so a solution cannot end")
    return end


def turn_end(template: PolicyTemplate, tokenizer: Any) -> int | str | None:
    """Return the token with which the chat template ends the assistant's turn, or the text if it is several.

    None if that is not known here: for a plain template, without a tokenizer, or if turns do not end.
    Generation stops there too, because the model's own end tokens may be others: Qwen2.5 base ends with
    <|endoftext|>, but its turns with <|im_end|>.
    """
    if not template.chat or tokenizer is None:
        return None
    end = _render_turn_end(template, tokenizer).strip()
    ids = _encode(tokenizer, end, False)[0]
    # An added token comes first even if more follows it, as in Phi-3's "<|end|>\n<|endoftext|>".
    is_token = len(ids) == 1 or (ids and ids[0] in tokenizer.added_tokens_decoder)
    return ids[0] if is_token else end or None


def _render_turn_end(template: PolicyTemplate, tokenizer: Any) -> str:
    turns = [*_turns(template, "?"), {"role": "assistant", "content": ANSWER}]
    return _render(template, tokenizer, turns).partition(ANSWER)[2].rstrip()


def _turns(template: PolicyTemplate, problem: str) -> list[Turn]:
    system = [{"role": "system", "content": template.system}] if template.system else []
    return [*system, {"role": "user", "content": template.fill(problem)}]


def _render(template: PolicyTemplate, tokenizer: Any, turns: list[Turn], **options: Any) -> str:
    plain = template.name.removesuffix("-chat") if template.name.endswith("-chat") else "math"
    return render_chat(
        tokenizer,
        turns,
        today=template.date or date.today().isoformat(),
        needs=f"the template {template.name} is for chat models",
        remedy=f"use a plain template such as {plain}, or ",
        **template.chat_template_kwargs,
        **options,
    )


def _encode(tokenizer: Any, text: str, has_special: bool) -> tuple[tuple[int, ...], list[int]]:
    """Return the ids of a text, without an end of sequence that it does not hold, and where each token ends.

    `has_special` adds the tokenizer's special tokens. A token without text (or any, if the tokenizer has no
    offsets) ends at 0.
    """
    encoding = tokenizer(
        text, add_special_tokens=has_special, return_offsets_mapping=tokenizer.is_fast, verbose=False
    )
    ids: list[int] = encoding["input_ids"]
    if ids and ids[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token):
        ids = ids[:-1]
    offsets = encoding.get("offset_mapping", [(0, 0)] * len(ids))
    return tuple(ids), [end if end > begin else 0 for begin, end in offsets]


def _solution_ids(before: tuple[int, ...], ids: tuple[int, ...], ends: list[int], begin: int) -> SolutionIds:
    """Return the ids of a solution whose first character is at `begin`, where `ends` count from 0."""
    token_after = {end - begin: count for count, end in enumerate(ends, start=1) if end > begin}
    return SolutionIds(before, ids, token_after)


def _decode(tokenizer: Any, ids: tuple[int, ...]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
