"""From what trainers send to a problem and the steps of its solution, by the template of their policy."""

import re

from erprm_cli.errors import RowError
from erprm_cli.policy.reasoning import is_opened, split
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows.steps import split_steps

# What stands around the user's turn in the chat formats of common policies.
USER_TURNS = (
    ("<|im_start|>user\n", "<|im_end|>"),  # ChatML: Qwen
    ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),  # Llama 3
    ("<start_of_turn>user\n", "<end_of_turn>"),  # Gemma
    ("<|start|>user<|message|>", "<|end|>"),  # gpt-oss
    ("<｜User｜>", "<｜Assistant｜>"),  # DeepSeek
    ("[INST]", "[/INST]"),  # Mistral
)
END_TOKENS = re.compile(r"(?:\s*(?:<[|｜][^<>|｜]*[|｜]>|</s>|<eos>|<pad>|<end_of_turn>))+\s*\Z")


def steps_of(text: str, template: PolicyTemplate, prompt: str = "") -> list[str]:
    """Return the steps of a solution as `erprm sample` splits it; `prompt` is what came before."""
    reasoning, answer = split(text, template.marks, is_opened(prompt, template.marks))
    part = reasoning if template.steps_of == "reasoning" else answer
    return split_steps(part or "", template.step_break)


def problem_of(prompt: str, template: PolicyTemplate) -> str:
    """Return the problem in a prompt, which may be rendered by a chat template.

    In a known chat format it is in the last turn of the user, else in the whole prompt. RowError if that text
    is not made by `template`.
    """
    turn = prompt
    for opening, closing in USER_TURNS:
        if opening in prompt:
            turn = prompt.rpartition(opening)[2].partition(closing)[0]
            break
    before, _, after = template.prompt.partition("{problem}")
    text, before, after = turn.strip(), before.strip(), after.strip()
    if not (text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after)):
        raise RowError(
            f"the prompt is not one of the template {template.name}",
            remedy="start the server with the --template of the policy",
        )
    return text[len(before) : len(text) - len(after)].strip()


def solution_of(query: str, prompt: str, template: PolicyTemplate) -> tuple[str, list[str]]:
    """Return the problem and the steps of a prompt with its response.

    Special tokens at the end are dropped. RowError if `query` does not begin with `prompt`.
    """
    if not query.startswith(prompt):
        raise RowError("'query' does not begin with its prompt", remedy="send the untruncated prompt")
    response = END_TOKENS.sub("", query[len(prompt) :])
    return problem_of(prompt, template), steps_of(response, template, prompt)
