"""Load models and tokenizers with transformers: names, devices, dtypes."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from erprm_cli.errors import UserError
from erprm_cli.models.names import Place, find_model
from erprm_cli.models.tokenizer_file import as_in_its_file
from erprm_cli.shipped import resolve

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
    with explained(name):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code, **files)
        return as_in_its_file(tokenizer, path, **files)


def only_safetensors(allow_pickle: bool) -> bool | None:
    """Return from_pretrained's use_safetensors: True, or None if pickled weights are accepted too."""
    return None if allow_pickle else True


def load_causal_lm(
    name: str,
    *,
    dtype: torch.dtype,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Any:
    """Load a causal language model in `dtype` onto the CPU, from safetensors only unless `allow_pickle`."""
    with explained(name):
        return AutoModelForCausalLM.from_pretrained(
            resolve(name),
            dtype=dtype,
            revision=revision,
            trust_remote_code=trust_remote_code,
            use_safetensors=only_safetensors(allow_pickle),
        )


class explained:
    """Turn what from_pretrained raises for a wrong name or folder into a one-line UserError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if isinstance(error, OSError | ValueError):
            what = "folder" if Path(self.name).exists() else "model"
            reason = str(error).strip().splitlines()[0]
            if "safetensors" in reason:
                reason += (
                    " (pickled weights can run code, so they are not loaded: save the model as safetensors, "
                    "or use --allow-pickle if you trust them)"
                )
            raise UserError(f"cannot load the {what} {self.name!r}: {reason}") from None
