"""Small random models with a word-level tokenizer of the kind of the shipped policy."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
WORDS = ("Question", "Answer", "Step", "The", "answer", "is", "Tom", "has", "gets", "more", "apples", "So")
MARKS = (*"0123456789", *"+-*=:?.,")
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


def make_tokenizer(words: tuple[str, ...] = (), keep_tag_apart: bool = True) -> PreTrainedTokenizerFast:
    """Return a tokenizer of words and digits that puts <s> first and knows " ки", " +" and " -"."""
    pieces = ["\n", ".\n", " ", *(blank + word for word in (*WORDS, *MARKS, *words) for blank in ("", " "))]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys((*SPECIAL, " ки", *pieces)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    pattern = r"\.?\n| ?\p{L}+| ?[0-9]| ?[^\s\p{L}0-9]|\s"
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(" ки|" + pattern if keep_tag_apart else pattern), behavior="isolated"
    )
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE,
    )


def make_model(kind: str, vocab_size: int, max_positions: int = 256) -> Any:
    """Return a random causal language model of an architecture: llama, qwen2, gemma2, gemma3 or cohere."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": max_positions,
        "initializer_range": 0.3,  # wide, so that scores differ from one half
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if kind.startswith("gemma"):
        settings |= {"sliding_window": 8, "final_logit_softcapping": 3.0}
    if kind == "cohere":
        settings |= {"logit_scale": 0.25}
    if kind == "gemma3":
        kind = "gemma3_text"
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()


def save_model(folder: Path, kind: str = "llama", max_positions: int = 256, **kwargs: Any) -> Path:
    """Save a random model and its tokenizer; return the folder."""
    tokenizer = make_tokenizer(**kwargs)
    make_model(kind, len(tokenizer), max_positions).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def solution_rows(count: int, labels: bool = False) -> list[dict[str, Any]]:
    """Return solutions of 1 to 4 steps whose label is 1 up to the first step that says "more"."""
    rows = []
    for number in range(count):
        random = torch.Generator().manual_seed(number)
        draw = torch.randint(0, 10, (8,), generator=random).tolist()
        words = ["more" if draw[index] > 6 else "is" for index in range(1 + number % 4)]
        steps = [f"Step {index}: Tom has {draw[index]} {word}." for index, word in enumerate(words, start=1)]
        row: dict[str, Any] = {
            "id": f"p{number // 3}",
            "problem": f"Tom has {number // 3} apples{' So' * (number // 3 * 7 % 10)}?",
            "answer": "1",
            "sample": number % 3,
            "solution": "\n".join(steps),
            "steps": steps,
        }
        if labels:
            row |= {
                "labels": [0.1 if "more" in words[: index + 1] else 0.875 for index in range(len(words))],
                "eta": 2.0,
                "estimator": "er",
            }
        rows.append(row)
    return rows
