"""The files of a model, checked before a library reads them: models and adapters come from strangers.

Of a folder and of a Hub model alike:

- A JSON file is an object of bounded size and depth; a chat template has a bounded size.
- Weights are safetensors files that are complete; an index names files of the same folder only. Pickles can
  run code and are read with `allow_pickle` only.
- No file is outside the folder, by its name in an index or by a link. Links within the Hub's cache are
  followed: it keeps files as links to its blobs.
- config.json describes a model of the size of its weights. What is missing in these, transformers would fill
  with random numbers, which takes as much time and memory as config.json says.
"""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from safetensors import SafetensorError, safe_open
from transformers.utils.hub import cached_files

from erprm_cli.errors import UserError
from erprm_cli.io.files import read_json, read_object
from erprm_cli.models.names import find_model
from erprm_cli.shipped import resolve

WEIGHTS = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLE_INDEX = "pytorch_model.bin.index.json"
CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER = "tokenizer.json"  # read by tokenizers, whose limit on depth is its own
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
)
READ_SUFFIXES = {".json", ".jinja", ".safetensors", ".bin", ".model", ".txt", ".tiktoken"}

MAX_CONFIG_BYTES = 16 << 20  # Llama 3's tokenizer_config.json, one of the largest, has 50 kB
MAX_TABLE_BYTES = 512 << 20  # tokenizer.json and indices of weights; Gemma 3's tokenizer.json has 33 MB
MAX_TEMPLATE_BYTES = 1 << 20  # of a chat template; the largest published ones have about 20 kB
MAX_LAYERS = 1_000
MAX_COUNT = 100_000  # heads, experts, labels and others
MAX_LENGTH = (1 << 31) - 1  # tokens
MAX_TOKEN = 10_000_000  # the largest id; published vocabularies have up to 262,144 tokens
LAYER_COUNTS = re.compile(r"(^|_)(layers?|blocks?|depths?)$")
COUNTS = re.compile(r"^(num|n)_(?!positions|ctx|embd|embed|inner)")
LENGTHS = re.compile(r"positions?(_|$)|^n_ctx$|^max_\w*len|window")
LIMITS = ((LAYER_COUNTS, MAX_LAYERS), (COUNTS, MAX_COUNT), (LENGTHS, MAX_LENGTH))
LAYER_OF_WEIGHT = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")

PICKLE_REMEDY = (
    "pickled weights can run code, so they are not loaded: save the model as safetensors, or use "
    "--allow-pickle if you trust them"
)

ABSENCES = ("missing_entries", "gated_repo", "connection_errors")  # in transformers' cached_files

Shapes = dict[str, tuple[int, ...]]


def check_tokenizer(path: str, **load_options: Any) -> None:
    """Raise UserError if a file of the tokenizer of a folder or Hub model is not what it should be."""
    _check_links(path)
    for file in _found(path, (*TOKENIZER_FILES, CONFIG), load_options):
        if file.suffix == ".jinja" or file.name == TOKENIZER:
            _check_size(file, MAX_TEMPLATE_BYTES if file.suffix == ".jinja" else MAX_TABLE_BYTES)
            if file.name == TOKENIZER:
                _check_token_ids(file)
            continue
        settings = _object(file)
        if file.name == CONFIG:
            _check_numbers(file, settings)
        for name in settings.get("fast_tokenizer_files") or ():
            _check_name(file, name)
        templates = settings.get("chat_template")
        for template in templates if isinstance(templates, list) else [{"template": templates}]:
            text = template.get("template") if isinstance(template, dict) else 0
            if not isinstance(text, str | None):
                raise UserError("'chat_template' must be a string, or a list of named templates", where=file)
            if len(text or "") > MAX_TEMPLATE_BYTES:
                raise UserError(f"the chat template is larger than {MAX_TEMPLATE_BYTES:,} bytes", where=file)


def check_config(path: str, **load_options: Any) -> None:
    """Raise UserError if config.json of a folder or Hub model is not what it should be."""
    _check_links(path)
    for file in _found(path, (CONFIG,), load_options):
        _check_numbers(file, _object(file))


def check_model(path: str, *, allow_pickle: bool = False, **load_options: Any) -> None:
    """Raise UserError if a file of a whole model, or of adapters and their base, is not what it should be."""
    adapters = adapter_settings(path, **load_options)
    if adapters is not None:
        if not adapter_shapes(path, **load_options) and not allow_pickle:
            raise UserError(f"{path} has no {ADAPTER_WEIGHTS}; {PICKLE_REMEDY}")
        if not _found(path, (CONFIG,), load_options):
            path, load_options["revision"] = _base_of(path, adapters)
            path = resolve(path)
    check_config(path, **load_options)
    for file in _found(path, (GENERATION_CONFIG, CONFIG), load_options):
        _check_end_tokens(file, _object(file).get("eos_token_id"))
    for index in _found(path, (PICKLE_INDEX,), load_options) if allow_pickle else ():
        _shards(index)
    for file in _found(path, (CONFIG,), load_options):
        config = _object(file)
        name = config.get("transformers_weights") or WEIGHTS
        _check_name(file, name)
        if not name.endswith((".safetensors", ".index.json")) and not allow_pickle:
            raise UserError(f"{file} names {name!r:.80}; {PICKLE_REMEDY}")
        _check_sizes(file, config, weight_shapes(path, name, allow_pickle=allow_pickle, **load_options))


def adapter_settings(path: str, **load_options: Any) -> dict[str, Any] | None:
    """Return adapter_config.json of a folder or Hub name; None if it holds a whole model, not adapters."""
    _check_links(path)
    for file in _found(path, (ADAPTER_CONFIG,), load_options):
        settings = _object(file)
        for key, kinds in (("base_model_name_or_path", str), ("peft_type", str), ("revision", str | None)):
            if not isinstance(settings.get(key), kinds):
                raise UserError(f"{key!r} must be a string, not {settings.get(key)!r:.60}", where=file)
        if settings.get("megatron_config") is not None:  # peft would import the module `megatron_core`
            raise UserError("adapters for Megatron are not supported", where=file)
        return settings
    return None


def adapter_base(path: str, **load_options: Any) -> tuple[str, str | None] | None:
    """Return the name and the revision of the base model of adapters; None if `path` holds a whole model.

    Raises UserError if the base is nowhere.
    """
    adapters = adapter_settings(path, **load_options)
    return None if adapters is None else _base_of(path, adapters)


def _base_of(path: str, settings: dict[str, Any]) -> tuple[str, str | None]:
    base, revision = settings["base_model_name_or_path"], settings.get("revision")
    try:
        find_model(base, revision)
    except UserError as error:
        raise UserError(f"the base model: {error}", where=f"{path}/{ADAPTER_CONFIG}") from None
    return base, revision


def adapter_shapes(path: str, **load_options: Any) -> Shapes:
    """Return the shapes of the weights of adapters by name; empty without adapter_model.safetensors.

    There is no index of several such files: peft would ignore it and load a pickle.
    """
    shapes = _shapes(_found(path, (ADAPTER_WEIGHTS,), load_options))
    for file in _found(path, (ADAPTER_CONFIG,), load_options) if shapes else ():
        settings = _object(file)
        most = max((size for shape in shapes.values() for size in shape), default=0)
        pattern = settings.get("rank_pattern")
        for rank in (settings.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())):
            if isinstance(rank, int) and rank > most:  # peft would make weights of this rank first
                raise UserError(
                    f"the rank is {rank:,}, but no weight has more than {most:,} rows", where=file
                )
    return shapes


def weight_shapes(
    path: str, name: str = WEIGHTS, *, allow_pickle: bool = False, **load_options: Any
) -> Shapes:
    """Return the shapes of a checkpoint's weights by name; empty if it has no safetensors.

    The weights are in one file, or in several that an index names. Raises UserError if one of them is not
    complete, not in the folder or, without `allow_pickle`, not safetensors.
    """
    files = _found(path, (name,), load_options)
    if files and not name.endswith(".index.json"):
        return _shapes(files)
    for index in files or _found(path, (f"{name}.index.json",), load_options):
        shards = _shards(index)
        pickles = sorted(shard for shard in set(shards.values()) if not shard.endswith(".safetensors"))
        if pickles and allow_pickle:
            return {}
        if pickles:
            raise UserError(f"{index} names {pickles[0]!r:.80}; {PICKLE_REMEDY}")
        names = sorted(set(shards.values()))
        parts = _found(path, names, load_options)
        if len(parts) < len(names):
            missing = sorted(set(names) - {part.name for part in parts})
            raise UserError(
                f"{index} names {missing[0]}, which is missing; download it, or save the model again"
            )
        shapes = _shapes(parts)
        if lost := sorted(shards.keys() - shapes.keys()):
            raise UserError(f"{index} names the weight {lost[0]!r:.80}, which is in none of its files")
        return shapes
    return {}


def _check_numbers(file: Path, config: dict[str, Any]) -> None:
    """Raise UserError if a number of layers, heads, labels, tokens or the like is beyond any model's."""
    for key, value in config.items():
        if isinstance(value, dict):
            _check_numbers(file, value)
        elif isinstance(value, int | float):
            limit = next((most for pattern, most in LIMITS if pattern.search(key)), None)
            if limit is not None and not value <= limit:
                raise UserError(
                    f"{key!r:.60} is {value:,}", where=file, remedy=f"at most {limit:,} are supported"
                )
            if LAYER_COUNTS.search(key) and value < 0:
                raise UserError(f"{key!r:.60} is {value:,}, a number below 0", where=file)


def _check_token_ids(file: Path) -> None:
    """Raise UserError if the id of a token is beyond any vocabulary: all smaller ones would take memory."""
    try:
        table = read_json(file)
    except ValueError:
        return  # tokenizers says what is wrong with it
    parts = table if isinstance(table, dict) else {}
    model, added = parts.get("model"), parts.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids = [*vocabulary.values()] if isinstance(vocabulary, dict) else []
    ids += [token.get("id") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    largest = max((token for token in ids if isinstance(token, int)), default=0)
    if largest > MAX_TOKEN:
        raise UserError(
            f"a token has the id {largest:,}", where=file, remedy=f"at most {MAX_TOKEN:,} are supported"
        )


def _check_end_tokens(file: Path, value: object) -> None:
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int and 0 <= token < 1 << 31 for token in ids):
        raise UserError(f"'eos_token_id' is {value!r:.60}, not a token id or a list of them", where=file)


def _check_sizes(file: Path, config: dict[str, Any], shapes: Shapes) -> None:
    """Raise UserError if config.json describes more layers than the weights have, or other widths."""
    text = config.get("text_config")
    config = text if isinstance(text, dict) else config
    layers, stored = config.get("num_hidden_layers"), _num_layers(shapes)
    if isinstance(layers, int) and stored and layers > stored:
        raise UserError(
            f"'num_hidden_layers' is {layers:,}, but the weights have {stored:,} layers", where=file
        )
    if not shapes or config.get("quantization_config"):  # packed weights have other shapes
        return
    widths = {size for shape in shapes.values() for size in shape}
    for key in ("hidden_size", "vocab_size"):
        if isinstance(config.get(key), int) and config[key] not in widths:
            raise UserError(f"{key!r} is {config[key]:,}, but no weight has that size", where=file)
    most = sum(map(math.prod, shapes.values()))
    for key, value in config.items():
        if key.endswith(("_size", "_dim")) and isinstance(value, int | float) and not value <= most:
            raise UserError(
                f"{key!r:.60} is {value:,}, but the weights are {most:,} numbers in all", where=file
            )


def _num_layers(shapes: Shapes) -> int:
    """Return how many layers weights have by their names; 0 if these do not say."""
    found = (LAYER_OF_WEIGHT.search(f".{name}") for name in shapes)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _found(path: str, names: Iterable[str], load_options: dict[str, Any]) -> list[Path]:
    """Return those of the files `names` that a folder or Hub model has, in order; they are downloaded."""
    options = {key: value for key, value in load_options.items() if key in ("revision", "local_files_only")}
    # What cannot be had is missing here; from_pretrained, which needs it, says why.
    options |= {f"_raise_exceptions_for_{what}": False for what in ABSENCES}
    return [Path(file) for file in cached_files(path, list(names), **options) or () if file]


def _check_links(path: str) -> None:
    """Raise UserError if a file that libraries may read in a folder is outside it, or is not a file."""
    folder = Path(path)
    if not folder.is_dir():
        return
    own = folder.resolve()
    roots = [own, Path(constants.HF_HUB_CACHE).resolve()]
    if own.parent.name == "snapshots":  # a cache of the Hub: the files are links to ../../blobs
        roots.append(own.parent.parent)
    for file in [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]:
        if file.suffix not in READ_SUFFIXES:
            continue
        target = _target(file)
        if not any(target.is_relative_to(root) for root in roots):
            raise UserError(f"{file} leads out of the folder, to {target}; copy the file into the folder")
        if not target.is_file():
            raise UserError(f"{file} is not a file, or a link to nothing")


def _target(file: Path) -> Path:
    try:
        return file.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise UserError(error, where=file) from None


def _shards(index: Path) -> dict[str, str]:
    """Return the file of each weight that an index names, all of them files of the same folder."""
    table = _object(index)
    shards = table.get("weight_map")
    if not isinstance(shards, dict) or not isinstance(table.get("metadata"), dict):
        raise UserError(f"{index} is damaged: no 'weight_map' and 'metadata'; download or save it again")
    for name in set(map(str, shards.values())):
        _check_name(index, name)
    return {weight: str(name) for weight, name in shards.items()}


def _check_name(source: Path, name: object) -> None:
    if not isinstance(name, str) or Path(name).name != name or "\\" in name:
        raise UserError(f"{source} names {name!r:.80}, which is not a file of the same folder")


def _shapes(files: list[Path]) -> Shapes:
    shapes: Shapes = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as weights:
                shapes |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{file} is damaged or incomplete: {error}; download it, or save the model, again"
            ) from None
    return shapes


def _object(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; UserError if it is not one, or too large or deep."""
    try:
        return read_object(
            file, MAX_TABLE_BYTES if file.name.endswith(".index.json") else MAX_CONFIG_BYTES, json.loads
        )
    except ValueError as error:
        raise UserError(f"{file} is damaged: {error}; download it, or save the model, again") from None


def _check_size(file: Path, max_bytes: int) -> None:
    if file.stat().st_size > max_bytes:
        raise UserError(f"{file} is larger than {max_bytes:,} bytes")
