"""Make sure that a tokenizer does what its tokenizer.json says.

transformers 5 builds a tokenizer from the class that tokenizer_config.json names. For some models that class
is wrong: DeepSeek V3 and R1 name LlamaTokenizerFast but have a byte-level vocabulary, so "So 2" becomes "So2"
without a warning (transformers issues 45488, 46710, 48206).
"""

import sys
from functools import cache
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from erprm_cli.terminal.text import visible

# Digits, line breaks, two spaces, LaTeX, an accent, a wide letter: what tokenizers treat in different ways.
PROBE = "So 2 + 3 = 5.\n\nThe answer is  $\\frac{1}{2}$, na\u00efve: \u6570\t1,234"


def as_in_its_file(tokenizer: Any, path: str, **load_options: Any) -> Any:
    """Return the tokenizer, or the one of tokenizer.json if the two read or write the probe differently.

    `path` is the folder or Hub name that `tokenizer` was loaded from, with `load_options`. A tokenizer
    without a tokenizer.json is returned as it is. A replacement is reported once, on stderr.
    """
    file = cached_file(path, "tokenizer.json", _raise_exceptions_for_missing_entries=False, **load_options)
    if file is None or _agrees(tokenizer, Tokenizer.from_file(file)):
        return tokenizer
    _report(path, type(tokenizer).__name__)
    return PreTrainedTokenizerFast.from_pretrained(path, **load_options)


def _agrees(tokenizer: Any, original: Tokenizer) -> bool:
    ids = original.encode(PROBE, add_special_tokens=False).ids
    if tokenizer(PROBE, add_special_tokens=False).input_ids != ids:
        return False
    decoded: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return decoded == original.decode(ids, skip_special_tokens=False)


@cache
def _report(path: str, class_name: str) -> None:
    print(
        f"erprm: warning: {visible(path)}: transformers' {class_name} does not read text as the model's "
        "tokenizer.json does; tokenizer.json is used",
        file=sys.stderr,
    )
