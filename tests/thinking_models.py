"""The tokenizers of thinking models, with chat templates that write what the models' own write here."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.models.loading import load_tokenizer
from tests.tiny_models import make_model

NPM = Path(__file__).parents[1] / ".tokenizers" / "npm"
FOLDERS = {"deepseek-r1": "deepseek_v3", "gpt-oss": "gptoss", "magistral": "mistral_nemo"}

# Without tools. The reasoning of an earlier turn is left out.
DEEPSEEK_R1_CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% endif %}"
    "{% if m.role == 'assistant' %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}"
    "<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
GPT_OSS_CHAT = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
    "Knowledge cutoff: 2024-06\nCurrent date: 2025-06-28\n\n"
    "Reasoning: {{ reasoning_effort | default('medium') }}\n\n# Valid channels: analysis, commentary, final. "
    "Channel must be included for every message.<|end|>"
    "{% for m in messages %}{% if m.role == 'system' %}<|start|>developer<|message|># Instructions\n\n"
    "{{ m.content }}\n\n<|end|>{% elif m.role == 'user' %}<|start|>user<|message|>{{ m.content }}<|end|>"
    "{% else %}{% if m.thinking is defined %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}"
    "<|end|>{% endif %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|return|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


@cache
def thinking_tokenizer(template: str) -> Any:
    """Return the tokenizer of the models that a template is for; the test is skipped without it."""
    folder = NPM / FOLDERS.get(template, "qwen3")
    if not folder.exists():
        pytest.skip("`make setup` gets this tokenizer")
    tokenizer = load_tokenizer(str(folder))
    if template == "deepseek-r1":
        tokenizer.add_tokens(["<think>", "</think>"])  # R1 has them in place of two fillers of V3
        tokenizer.chat_template = DEEPSEEK_R1_CHAT
    if template == "gpt-oss":
        tokenizer.chat_template = GPT_OSS_CHAT
    if template == "magistral":
        tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    return tokenizer


def save_thinking_model(template: str, folder: Path) -> str:
    """Save a random model with that tokenizer; return the folder."""
    tokenizer = thinking_tokenizer(template)
    model = make_model("llama", len(tokenizer))
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.config.bos_token_id = model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
