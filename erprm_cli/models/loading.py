"""Load models and tokenizers with transformers: names, devices, dtypes."""

import os
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from erprm_cli.errors import UserError
from erprm_cli.models.file_checks import (
    ADAPTER_CONFIG,
    CONFIG,
    GENERATION_CONFIG,
    PICKLE_REMEDY,
    TOKENIZER,
    TOKENIZER_CONFIG,
    check_config,
    check_model,
    check_tokenizer,
)
from erprm_cli.models.names import Place, find_model, waiting_for_hub
from erprm_cli.models.tokenizer_file import as_in_its_file, try_out
from erprm_cli.shipped import resolve
from erprm_cli.terminal.text import one_line

MAX_REASON = 300  # characters of a library's message that are shown

logging.disable_progress_bar()


def pick_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype that --dtype names; "auto" is bfloat16 on a GPU and float32 on a CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)  # type: ignore[no-any-return]  # options.Dtype lists the names


def load_tokenizer(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False, is_optional: bool = False
) -> Any:
    """Load the tokenizer of a folder or Hub name; UserError if that fails.

    It does what tokenizer.json says, whatever class the model names. An optional one that is in the cache is
    not looked for on the Hub.
    """
    place = find_model(name, revision)
    path = resolve(name)
    files: dict[str, Any] = {
        "revision": revision,
        "local_files_only": is_optional and place is Place.CACHE,
    }
    with explained(name, TOKENIZER_CONFIG):
        with waiting_for_hub(name):
            check_tokenizer(path, **files)
        tokenizer = AutoTokenizer.from_pretrained(
            path,
            trust_remote_code=trust_remote_code,
            mistral_format=False,  # mistral-common, which comes with vLLM, would hide tokenizer.json
            **files,
        )
        tokenizer = as_in_its_file(tokenizer, path, **files)
        try_out(tokenizer)
        return tokenizer


def load_causal_lm(
    name: str,
    *,
    dtype: torch.dtype,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Any:
    """Load a causal language model in `dtype` onto the CPU, from safetensors only unless `allow_pickle`."""
    return load_model(
        AutoModelForCausalLM,
        name,
        revision=revision,
        allow_pickle=allow_pickle,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )


def load_model(
    cls: Any, name: str, *, revision: str | None = None, allow_pickle: bool = False, **load_options: Any
) -> Any:
    """Return what `cls.from_pretrained` makes of a folder or Hub name, after a check of its files.

    Pickled weights are read only with `allow_pickle`. UserError if anything in the files is not as it should
    be; see `file_checks`.
    """
    path = resolve(name)
    with explained(name), waiting_for_hub(name):
        check_model(path, revision=revision, allow_pickle=allow_pickle)
    with explained(name, GENERATION_CONFIG):
        if Path(path, GENERATION_CONFIG).exists():
            GenerationConfig.from_pretrained(path)
    with explained(name):
        return cls.from_pretrained(
            path, revision=revision, use_safetensors=None if allow_pickle else True, **load_options
        )


def load_config(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Return the configuration of a folder or Hub name; UserError if that fails."""
    path = resolve(name)
    with explained(name):
        with waiting_for_hub(name):
            check_config(path, revision=revision)
        return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)


class explained:
    """Turn what libraries raise for the files of a model into a one-line UserError that names the file.

    Any Exception is taken for a fault of the files: transformers reads them without checks, so a wrong value
    shows as a TypeError or KeyError somewhere in its code, and tokenizers raises plain Exceptions, or panics.
    """

    def __init__(self, name: str, file: str = CONFIG) -> None:
        """Blame `file` of the folder `name`, if it is a folder and has that file."""
        self.name, self.file = name, file

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        is_panic = type(error).__name__ == "PanicException"  # of Rust; it is not an Exception
        if isinstance(error, UserError | ModuleNotFoundError | torch.OutOfMemoryError) or not (
            isinstance(error, Exception) or is_panic
        ):
            return
        reason = one_line(str(error).strip().partition("\n")[0], MAX_REASON)
        if not isinstance(error, OSError | ValueError) or not reason:
            reason = f"{type(error).__name__}: {reason}"
        if "safetensors" in reason:
            reason += f" ({PICKLE_REMEDY})"
        folder = Path(resolve(self.name))
        if not os.path.exists(folder):
            raise UserError(f"cannot load the model {self.name!r}: {reason}") from None
        if self.file == TOKENIZER_CONFIG and (folder / TOKENIZER).exists():
            with explained(self.name, TOKENIZER):
                Tokenizer.from_file(str(folder / TOKENIZER))
        known = [file for file in (self.file, ADAPTER_CONFIG) if (folder / file).exists()]
        place = f" ({known[0]})" if known else ""
        raise UserError(f"cannot load the folder {self.name!r}{place}: {reason}") from None
