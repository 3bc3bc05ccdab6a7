"""What decides the identity of a local model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from erprm_cli.errors import UserError
from erprm_cli.models.content import hub_commit, model_content
from erprm_cli.models.folder import CARD
from tests.tiny_models import save_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(save_model(tmp_path / "model"))


def hash_of(folder: Path | str) -> str:
    content = model_content(str(folder))
    assert content is not None
    return content.hash()


def last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights of the same size": lambda folder: last_byte(folder / "model.safetensors"),
    "a configuration": lambda folder: (folder / "config.json").write_text("{}"),
    "a tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "a chat template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
    "another chat template": lambda folder: write(folder / "additional_chat_templates" / "rag.jinja", "?"),
    "code": lambda folder: (folder / "modeling_own.py").write_text("x = 1"),
    "adapters": lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"1"),
    "the format of a PRM": lambda folder: write_card(folder, format={"tag": "+"}),
    "a shard in a folder below": lambda folder: write_shard(folder, b"2"),
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "a model card": lambda folder: (folder / "README.md").write_text("A model"),
    "the state of the training": lambda folder: (folder / "optimizer.pt").write_bytes(b"1"),
    "TensorBoard's files": lambda folder: write(folder / "runs" / "events", "1"),
    "scores and their sidecar": lambda folder: (folder / "scores.jsonl.meta.json").write_text("{}"),
    "another pickle": lambda folder: (folder / "pytorch_model.bin").write_bytes(b"1"),
    "the result of the training": lambda folder: write_card(folder, result={"seconds": 2.0}),
}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def write_card(folder: Path, **fields: object) -> None:
    card = {"format": {"tag": "ки"}, "result": {"seconds": 1.0}}
    (folder / CARD).write_text(json.dumps(card | fields))


def write_shard(folder: Path, data: bytes) -> None:
    (folder / "below").mkdir(exist_ok=True)
    (folder / "below" / "1.safetensors").write_bytes(data)


@pytest.mark.parametrize("change", [*CHANGES, *NO_CHANGES])
def test_what_is_read_is_the_content_and_nothing_else(folder: Path, change: str) -> None:
    write_card(folder)
    write_shard(folder, b"1")
    index = {"weight_map": {"weight": "below/1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    before = hash_of(folder)
    assert hash_of(folder) == before == hash_of(shutil.copytree(folder, folder.with_name("copy")))
    (CHANGES | NO_CHANGES)[change](folder)
    assert (hash_of(folder) == before) == (change in NO_CHANGES)


@pytest.mark.parametrize("names", [[3], [None], [1.5, "below/1.safetensors"], [["a"]], {"a": 1}, "a", 7])
def test_an_index_that_names_no_files_is_content_too(folder: Path, names: object) -> None:
    weight_map = dict(enumerate(names)) if isinstance(names, list) else names
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert hash_of(folder)


def test_pickled_weights_count_where_there_are_no_others(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    before = hash_of(folder)
    last_byte(folder / "pytorch_model.bin")
    assert hash_of(folder) != before


def test_the_base_of_adapters_is_part_of_them(folder: Path, tmp_path: Path) -> None:
    adapters = tmp_path / "adapters"
    write(adapters / "adapter_config.json", json.dumps({"base_model_name_or_path": str(folder)}))
    write(adapters / "adapter_model.safetensors", "1")
    before = hash_of(adapters)
    last_byte(folder / "model.safetensors")
    assert hash_of(adapters) != before
    write(folder / "adapter_config.json", json.dumps({"base_model_name_or_path": str(adapters)}))  # a circle
    assert hash_of(adapters) != before
    for damaged in ("{", "[]", '{"base_model_name_or_path": 3}', '{"base_model_name_or_path": "owner/name"}'):
        write(adapters / "adapter_config.json", damaged)
        assert hash_of(adapters)


def test_the_shipped_model_is_one_too_and_a_name_on_the_hub_is_not() -> None:
    assert hash_of("tiny")
    assert model_content("owner/name") is None


def test_a_model_on_the_hub_has_the_commit_that_the_cache_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert hub_commit("owner/name", None) is None
    for repository, file, commit in (("name", "config", "12ab"), ("lora", "adapter_config", "34cd")):
        cached = tmp_path / f"models--owner--{repository}"
        for name, text in (("refs/main", commit), (f"snapshots/{commit}/{file}.json", "{}")):
            (cached / name).parent.mkdir(parents=True, exist_ok=True)
            (cached / name).write_text(text)
    assert hub_commit("owner/name", None) == "12ab" and hub_commit("owner/name", "v2") is None
    assert hub_commit("owner/lora", "main") == "34cd"
    assert hub_commit("tiny", None) is None and hub_commit("../not a name", None) is None


def test_a_file_that_cannot_be_read_is_one_line(folder: Path) -> None:
    (folder / "vocab.txt").symlink_to("/proc/self/mem")  # its first page is not there
    with pytest.raises(UserError, match=f"^model {folder}: cannot read {folder}/vocab.txt: "):
        hash_of(folder)
