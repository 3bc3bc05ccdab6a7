"""Damaged and hostile folders of models: one line that names the file, and nothing is run or read outside."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from erprm_cli.errors import UserError
from erprm_cli.models import loading
from erprm_cli.prm.formats import load_prm_format
from erprm_cli.prm.loading import load_prm
from erprm_cli.prm.scorer import Scorer
from tests.tiny_models import save_model


class Canary:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def load_policy(folder: Path, allow_pickle: bool = False) -> None:
    loading.load_causal_lm(str(folder), dtype=torch.float32, allow_pickle=allow_pickle)


def load_reward_model(folder: Path, allow_pickle: bool = False) -> None:
    load_prm(str(folder), load_prm_format("er-prm"), dtype="auto", allow_pickle=allow_pickle)


LOADERS = (load_policy, load_reward_model)


def load_all(folder: Path, allow_pickle: bool = False) -> None:
    """Load a folder as a policy does, and as a PRM."""
    loading.load_tokenizer(str(folder))
    for load in LOADERS:
        load(folder, allow_pickle)


def refusal(folder: Path) -> str:
    """Return the error of a folder, one printable line that is the same for policies and PRMs."""
    with pytest.raises(UserError) as caught:
        load_all(folder)
    line = str(caught.value)
    assert line.isprintable() and len(line) < 700, line
    return line


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_chat_template_of_endless_length_is_not_read(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("x" * (2 << 20))
    assert "chat_template.jinja is larger than" in refusal(folder)


def test_a_whole_folder_is_loaded(folder: Path) -> None:
    load_all(folder)


@pytest.mark.parametrize("damage", ["cut", "cut in the header", "empty", "zeros", "text"])
def test_damaged_weights_are_named(folder: Path, damage: str) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(
        {
            "cut": content[:-100],
            "cut in the header": content[:100],
            "empty": b"",
            "zeros": bytes(len(content)),
            "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 497774208\n",
        }[damage]
    )
    assert f"{file} is damaged or incomplete" in refusal(folder)


JSON_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 5000])
@pytest.mark.parametrize("name", JSON_FILES)
def test_damaged_json_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert name in refusal(folder)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("config.json", {"num_hidden_layers": 10**7}),
        ("config.json", {"num_hidden_layers": 900}),
        ("config.json", {"num_hidden_layers": -1}),
        ("config.json", {"num_labels": 10**10}),
        ("config.json", {"max_position_embeddings": 2**63}),
        ("config.json", {"sliding_window": 2**64}),
        ("config.json", {"hidden_size": 10**9}),
        ("config.json", {"vocab_size": 2**20}),
        ("config.json", {"intermediate_size": 10**12}),
        ("config.json", {"num_attention_heads": "four"}),
        ("config.json", {"num_attention_heads": 0}),
        ("config.json", {"model_type": "\x1b[31mnone"}),
        ("config.json", {"model_type": ["llama"]}),
        ("config.json", {"rope_parameters": {"rope_type": "\x1b]0;owned\x07", "rope_theta": 1.0}}),
        ("config.json", {"transformers_weights": "../model.safetensors"}),
        ("config.json", {"transformers_weights": "adapter_model.bin"}),
        ("generation_config.json", {"max_new_tokens": "many"}),
        ("generation_config.json", {"eos_token_id": "</s>"}),
        ("config.json", {"eos_token_id": [1, -1]}),
        ("tokenizer_config.json", {"chat_template": 3}),
        ("tokenizer_config.json", {"chat_template": "x" * (2 << 20)}),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../tokenizer.9.0.0.json"]}),
        ("tokenizer_config.json", {"extra_special_tokens": 3}),
        ("tokenizer.json", {"model": {"type": "WordLevel", "vocab": {"a": -1}}}),
        ("tokenizer.json", {"model": {"type": "WordLevel", "vocab": {"a": 2**29}, "unk_token": "a"}}),
        ("tokenizer.json", {"added_tokens": [{"id": 2**32 - 1, "content": "b"}]}),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}}}),
    ],
)
def test_hostile_values_are_refused_soon_and_named(folder: Path, name: str, values: dict[str, Any]) -> None:
    change(folder / name, **values)
    assert name in refusal(folder)


def test_a_config_of_gigabytes_is_not_read(folder: Path) -> None:
    os.truncate(folder / "config.json", 1 << 40)  # a file of one hole
    assert "config.json is damaged: larger than" in refusal(folder)


@pytest.mark.parametrize("outside", ["../outside.bin", "weights.bin", "/absolute", "../outside.safetensors"])
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_an_index_names_safetensors_of_the_folder_only(
    folder: Path, outside: str, allow_pickle: bool, tmp_path: Path
) -> None:
    name = outside.replace("/absolute", str(tmp_path / "outside.bin"))
    target = folder / name
    target.write_bytes(pickle.dumps(Canary(tmp_path / "ran")))
    if name.endswith(".safetensors"):
        shutil.copy(folder / "model.safetensors", target)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if name == "weights.bin" and allow_pickle:  # which is what the flag is for
        return
    with pytest.raises(UserError, match="model.safetensors.index.json names"):
        load_all(folder, allow_pickle)
    assert not (tmp_path / "ran").exists()


def test_an_index_of_pickles_stays_in_the_folder_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_bytes(pickle.dumps(Canary(tmp_path / "ran")))
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": "../outside.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="names '../outside.bin', which is not a file of the same folder"):
        load_all(folder, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("weights", [{"a": "gone.safetensors"}, {"nothing.weight": "model-1.safetensors"}, 3])
def test_an_index_that_does_not_fit_its_files_is_named(folder: Path, weights: Any) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"metadata": {}, "weight_map": weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model.safetensors.index.json" in refusal(folder)


# Links


@pytest.mark.parametrize("name", [*JSON_FILES, "model.safetensors"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, name: str, tmp_path: Path) -> None:
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert f"{folder / name} leads out of the folder" in refusal(folder)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_what_is_not_a_file_is_refused(folder: Path, make: Callable[[Path], object]) -> None:
    (folder / "config.json").unlink()
    make(folder / "config.json")
    assert str(folder / "config.json") in refusal(folder)


def test_links_in_a_circle_are_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")
    assert "config.json" in refusal(folder)


def test_links_within_a_folder_and_a_link_to_the_folder_are_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights-of-march")
    (folder / "model.safetensors").symlink_to("weights-of-march")
    (tmp_path / "latest").symlink_to(folder)
    load_all(tmp_path / "latest")


def snapshot(folder: Path, cache: Path) -> Path:
    """Return the snapshot of a copy of `folder` in a cache as the Hub's client makes it: links to blobs."""
    repository = cache / "models--someone--model"
    made = repository / "snapshots" / ("0" * 40)
    made.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for number, file in enumerate(folder.iterdir()):
        shutil.copy(file, repository / "blobs" / str(number))
        (made / file.name).symlink_to(f"../../blobs/{number}")
    return made


def test_a_cache_of_the_hub_is_loaded_by_its_folder_and_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_all(snapshot(folder, tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    load_all(Path("someone/model"))
    blobs = tmp_path / "hub" / "models--someone--model" / "blobs"
    for blob in blobs.iterdir():
        if blob.stat().st_size > 20_000:
            blob.write_bytes(blob.read_bytes()[:-9])
    assert "model.safetensors is damaged or incomplete" in refusal(Path("someone/model"))


# Adapters and cards


@pytest.fixture(scope="module")
def adapters(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of adapters of the base `whole`."""
    pytest.importorskip("peft")
    from erprm_cli.models.adapters import add_lora

    folder = tmp_path_factory.mktemp("adapters") / "adapters"
    model = loading.load_causal_lm(str(whole), dtype=torch.float32)
    add_lora(model, str(whole), 2).save_pretrained(folder)
    for file in whole.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def test_whole_adapters_are_loaded(adapters: Path) -> None:
    load_all(adapters)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_model.safetensors", b""),
        ("adapter_model.safetensors", b"\x08\0\0\0\0\0\0\0{}      "),
        ("adapter_config.json", b""),
        ("adapter_config.json", b"[]"),
        ("adapter_config.json", b"{}"),
        ("adapter_config.json", b'{"peft_type": "LORA", "base_model_name_or_path": 3}'),
        ("adapter_config.json", b'{"peft_type": "NONE", "base_model_name_or_path": "BASE"}'),
        ("adapter_config.json", b'{"peft_type": "LORA", "base_model_name_or_path": "BASE", "r": "x"}'),
        ("adapter_config.json", b'{"peft_type": "LORA", "base_model_name_or_path": "BASE", "r": 100000000}'),
        (
            "adapter_config.json",
            b'{"peft_type": "LORA", "base_model_name_or_path": "BASE", "rank_pattern": {"q": 100000000}}',
        ),
        (
            "adapter_config.json",
            b'{"peft_type": "LORA", "base_model_name_or_path": "BASE", "megatron_config": {},'
            b' "megatron_core": "this"}',
        ),
    ],
)
def test_damaged_adapters_are_named(
    adapters: Path, whole: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    folder = Path(shutil.copytree(adapters, tmp_path / "adapters"))
    (folder / name).write_bytes(content.replace(b"BASE", str(whole).encode()))
    for load in LOADERS:
        with pytest.raises(UserError, match="adapter_"):
            load(folder)


@pytest.mark.parametrize("base", ["a" * 10_000, "./nowhere", "/etc/passwd", "a\0b", ""])
def test_a_base_that_is_no_model_is_named_with_the_adapters(
    adapters: Path, tmp_path: Path, base: str
) -> None:
    folder = Path(shutil.copytree(adapters, tmp_path / "adapters"))
    change(folder / "adapter_config.json", base_model_name_or_path=base)
    for load in LOADERS:
        with pytest.raises(UserError, match="adapter_config.json: the base model: .*(no such folder|a file)"):
            load(folder)


def test_an_index_of_adapters_opens_no_way_to_pickles(adapters: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapters, tmp_path / "adapters"))
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "ran")))
    index = {"metadata": {}, "weight_map": {"a": "adapter_model.bin"}}
    (folder / "adapter_model.safetensors.index.json").write_text(json.dumps(index))
    for load in LOADERS:
        with pytest.raises(UserError, match="has no adapter_model.safetensors.*pickled"):
            load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 3, "token_ids": {}}',
        '{"format": {}, "token_ids": {}}',
        '{"format": {}, "token_ids": {}, "settings": []}',
        '{"format": {}, "token_ids": {}, "eta": "x"}',
        '{"format": {}, "token_ids": {}, "eta": ' + "[" * 5000,
    ],
)
def test_a_damaged_card_is_named(folder: Path, content: str) -> None:
    (folder / "erprm.json").write_text(content)
    with pytest.raises(UserError, match="erprm.json"):
        Scorer(str(folder), eta=1.0)
