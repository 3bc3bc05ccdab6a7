"""The content of a local model: of all files that decide what it computes, its adapters' base included."""

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import orjson

from erprm_cli import shipped
from erprm_cli.errors import UserError
from erprm_cli.hashing import content_hash
from erprm_cli.io.content import Content, cached_hash
from erprm_cli.io.files import fits, read_json
from erprm_cli.models.folder import CARD

# What transformers and vLLM read: weights, configurations, tokenizers, chat templates, code.
WEIGHTS = ("*.safetensors", "*.gguf")
PICKLES = ("*.bin", "*.pt", "*.pth")  # read only where there are no safetensors
OTHERS = "*.json *.model *.txt *.tiktoken *.jinja *.py".split()
# Beside them, but without effect: the state of a training, sidecars of outputs.
UNREAD = "training_args.bin optimizer.* scheduler.* rng_state* trainer_state.json *.meta.json".split()

DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)  # of a file that loading will report


def model_content(name: str) -> Content | None:
    """Return the content of a model folder; None for a name on the Hub, where commits identify a model."""
    folder = Path(shipped.resolve(name))
    if not os.path.exists(folder):
        return None
    folders = _with_bases(folder)
    files = tuple(file for each in folders for file in model_files(each))
    return Content(partial(_hash, name, files), () if name == shipped.TINY else (*folders, *files))


def hub_commit(name: str, revision: str | None) -> str | None:
    """Return the commit of a model or of adapters that were loaded from the Hub; None for a folder."""
    if os.path.exists(shipped.resolve(name)):
        return None
    from huggingface_hub import try_to_load_from_cache

    with suppress(ValueError):  # not a name on the Hub
        for file in ("adapter_config.json", "config.json", "tokenizer_config.json"):
            found = try_to_load_from_cache(name, file, revision=revision)
            if isinstance(found, str):
                return Path(found).parent.name
    return None


def model_files(folder: Path) -> list[Path]:
    """Return the files of a model folder that are read, in order; a model may also be one file (.gguf)."""
    if folder.is_file():
        return [folder]
    with suppress(OSError):
        files = {path for path in folder.iterdir() if fits(path, (*WEIGHTS, *PICKLES, *OTHERS))}
        files |= {folder / name for index in files for name in _shards(index)}
        files |= set(folder.glob("additional_chat_templates/*.jinja"))
        has_safetensors = any(path.suffix == ".safetensors" for path in files)
        unread = (*UNREAD, *PICKLES) if has_safetensors else UNREAD
        return sorted(path for path in files if path.is_file() and not fits(path, unread))
    return []


def _shards(index: Path) -> Iterator[str]:
    """Yield the files of weights that an index names, which may be in a folder below."""
    if index.name.endswith(".index.json"):
        with suppress(*DAMAGED):
            names = set(read_json(index)["weight_map"].values())
            yield from (name for name in names if isinstance(name, str))


def _with_bases(folder: Path) -> list[Path]:
    """Return the folder and, if it holds adapters of a local base, the folder of that, and so on."""
    found: list[Path] = []
    base: Path | None = folder
    while base is not None and os.path.exists(base) and base not in found:  # base may be too long for a name
        found.append(base)
        base = None
        with suppress(*DAMAGED):
            base = Path(read_json(found[-1] / "adapter_config.json")["base_model_name_or_path"])
    return found


def _hash(name: str, files: tuple[Path, ...]) -> str:
    parts = []
    for path in files:
        try:
            parts.append(f"{path.name}\0{_file_hash(path)}")
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}", where=f"model {name}") from None
    return content_hash("\0".join(parts))


def _file_hash(path: Path) -> str:
    if path.name == CARD:
        with suppress(*DAMAGED):  # without the results, such as how long the training took
            card = read_json(path) | {"result": None, "erprm": None}
            return content_hash(orjson.dumps(card).decode())
    return cached_hash(path)
