"""Make sure that a tokenizer does what its tokenizer.json says.

transformers 5 builds a tokenizer from the class that tokenizer_config.json names. For some models that class
is wrong: DeepSeek V3 and R1 name LlamaTokenizerFast but have a byte-level vocabulary, so "So 2" becomes "So2"
without a warning (transformers issues 45488, 46710, 48206).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from erprm_cli.io.files import read_json, write_json
from erprm_cli.terminal.say import say

# Digits, line breaks, two spaces, LaTeX, an accent, a wide letter: what tokenizers treat in different ways.
PROBE = "So 2 + 3 = 5.\n\nThe answer is  $\\frac{1}{2}$, na\u00efve: \u6570\t1,234"

NOBODYS = "\U0010fffd"  # a character for private use, which no vocabulary has


def try_out(tokenizer: Any) -> None:
    """Read and write a text, and look up the special tokens: what is damaged fails here, before it is used.

    An unknown character is part of it, because a vocabulary that lacks its token for unknown words would fail
    in the middle of a run.
    """
    ids = tokenizer(PROBE + NOBODYS, return_offsets_mapping=tokenizer.is_fast).input_ids
    tokenizer.decode(ids)
    tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens([*ids, *tokenizer.all_special_ids]))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        getattr(tokenizer, name)


def as_in_its_file(tokenizer: Any, path: str, **load_options: Any) -> Any:
    """Return the tokenizer, or the one of tokenizer.json if the two read or write the probe differently.

    `path` is the folder or Hub name that `tokenizer` was loaded from, with `load_options`. A tokenizer
    without a tokenizer.json is returned as it is. A replacement is reported once, on stderr. It begins a text
    with the BOS token if the class would have done so.
    """

    def find(name: str) -> str | None:
        file: str | None = cached_file(
            path, name, _raise_exceptions_for_missing_entries=False, **load_options
        )
        return file

    file = find("tokenizer.json")
    if file is None or _agrees(tokenizer, Tokenizer.from_file(file)):
        return tokenizer
    _report(path, type(tokenizer).__name__)
    replacement = PreTrainedTokenizerFast.from_pretrained(path, **load_options)
    replacement.config_of_model = find("config.json")
    settings = find("tokenizer_config.json")
    wants_bos = settings is None or read_json(settings).get("add_bos_token", True)  # LlamaTokenizer's default
    bos = replacement.bos_token_id
    if wants_bos and bos is not None and bos not in replacement(PROBE).input_ids:
        replacement.add_bos_token = True  # transformers 5 reads it from tokenizer.json only
    return replacement


@contextmanager
def replaced_folder(tokenizer: Any) -> Iterator[str | None]:
    """Yield a folder with the tokenizer if it is a replacement, for another loader of the model, or None."""
    if not hasattr(tokenizer, "config_of_model"):
        yield None
        return
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        if tokenizer.config_of_model is not None:  # vLLM logs errors without it
            write_json(Path(folder) / "config.json", read_json(tokenizer.config_of_model))
        yield folder


def _agrees(tokenizer: Any, original: Tokenizer) -> bool:
    ids = original.encode(PROBE, add_special_tokens=False).ids
    if tokenizer(PROBE, add_special_tokens=False).input_ids != ids:
        return False
    decoded: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return decoded == original.decode(ids, skip_special_tokens=False)


@cache
def _report(path: str, class_name: str) -> None:
    say(
        f"transformers' {class_name} does not read text as the model's tokenizer.json does; tokenizer.json "
        "is used",
        kind="warning",
        where=path,
    )
