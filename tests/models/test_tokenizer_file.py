"""A tokenizer whose class does not suit its tokenizer.json is replaced, and no other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from erprm_cli.errors import UserError
from erprm_cli.models.loading import load_tokenizer
from erprm_cli.models.tokenizer_file import replaced_folder
from tests.real_tokenizers import file_of, published
from tests.tiny_models import make_tokenizer

TEXT = "So 2 + 3 = 5.\n\nThe answer is 5"


def byte_level(folder: Path, class_name: str) -> str:
    """Save a byte-level BPE tokenizer, as DeepSeek has, whose configuration names a class."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<begin>", "<end>"],
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", 0)]
    )
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": class_name, "bos_token": "<begin>", "eos_token": "<end>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ messages }}"}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return str(folder)


@pytest.mark.parametrize("class_name", ["LlamaTokenizerFast", "LlamaTokenizer"])
def test_a_wrong_class_gives_way_to_the_file_and_is_reported_once(
    class_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = byte_level(tmp_path / "model", class_name)
    for _ in range(2):
        tokenizer = load_tokenizer(name)
        ids = tokenizer(TEXT).input_ids
        assert ids[0] == tokenizer.bos_token_id == 0  # once
        assert ids[1] != 0
        assert tokenizer.decode(ids[1:]) == TEXT
        assert tokenizer.eos_token == "<end>"
        assert tokenizer.chat_template == "{{ messages }}"
    assert capsys.readouterr().err.count("tokenizer.json is used") == 1


@pytest.mark.parametrize("class_name", ["PreTrainedTokenizerFast", "GPT2TokenizerFast"])
def test_a_class_that_suits_is_kept(
    class_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = load_tokenizer(byte_level(tmp_path / "model", class_name))
    assert tokenizer.decode(tokenizer(TEXT, add_special_tokens=False).input_ids) == TEXT
    assert capsys.readouterr().err == ""


def test_tiny_and_word_level_tokenizers_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tokenizer().save_pretrained(tmp_path / "words")
    for name in ("tiny", str(tmp_path / "words")):
        assert load_tokenizer(name).is_fast
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("add_bos_token", "count"), [(True, 1), (False, 0), (None, 1)])
def test_the_replacement_begins_with_bos_as_the_class_would(
    add_bos_token: bool | None, count: int, tmp_path: Path
) -> None:
    name = byte_level(tmp_path / "model", "LlamaTokenizerFast")
    tokenizer_json, config_json = (Path(name) / file for file in ("tokenizer.json", "tokenizer_config.json"))
    tokenizer_json.write_text(json.dumps(json.loads(tokenizer_json.read_text()) | {"post_processor": None}))
    config = json.loads(config_json.read_text())
    if add_bos_token is not None:  # LlamaTokenizer's default is true
        config["add_bos_token"] = add_bos_token
    config_json.write_text(json.dumps(config))
    ids = load_tokenizer(name)(TEXT).input_ids
    assert ids.count(0) == count and (not count or ids[0] == 0)


def test_another_loader_gets_a_folder_with_the_replacement(tmp_path: Path) -> None:
    wrong = load_tokenizer(byte_level(tmp_path / "wrong", "LlamaTokenizerFast"))
    with replaced_folder(wrong) as folder:
        again = AutoTokenizer.from_pretrained(folder)
    assert again(TEXT).input_ids == wrong(TEXT).input_ids
    assert again.decode(again(TEXT).input_ids, skip_special_tokens=True) == TEXT
    with replaced_folder(load_tokenizer("tiny")) as folder:
        assert folder is None


@pytest.mark.slow
def test_deepseek_keeps_its_spaces_and_its_bos() -> None:
    tokenizer = published("deepseek_v3")
    assert tokenizer("So 2\n").input_ids == [0, 5328, 223, 20, 201]
    assert tokenizer.decode([5328, 223, 20, 201]) == "So 2\n"


def without_unknown(model: dict[str, Any]) -> dict[str, Any]:
    """Take the token for unknown words out of the vocabulary of a tokenizer.json."""
    del model["vocab"]["<unk>"]
    return model


UNIGRAM = {"type": "Unigram", "unk_id": None, "vocab": [["<pad>", 0.0], ["So", -1.0]], "byte_fallback": False}
BPE = {"type": "BPE", "unk_token": "<gone>", "vocab": {"a": 0}, "merges": []}


@pytest.mark.parametrize(
    "change",
    [
        without_unknown,
        lambda model: model | {"unk_token": "<gone>"},
        lambda _: UNIGRAM,
        lambda _: BPE,
    ],
)
def test_a_vocabulary_without_its_unknown_token_is_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]], tmp_path: Path
) -> None:
    make_tokenizer().save_pretrained(tmp_path / "words")
    file = tmp_path / "words" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "<unk>"]
    content["model"] = change(content["model"])
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"^cannot load the folder '.*words' \(tokenizer_config.json\): "):
        load_tokenizer(str(tmp_path / "words"))


@pytest.mark.slow
@pytest.mark.parametrize("has_tokenizer_json", [True, False])
def test_mistral_common_does_not_take_the_place_of_a_fast_tokenizer(
    has_tokenizer_json: bool, tmp_path: Path
) -> None:
    pytest.importorskip("mistral_common")  # it comes with vLLM
    folder = file_of("npm/mistral_nemo/tokenizer.json").parent
    shutil.copytree(folder, tmp_path / "model", dirs_exist_ok=True)
    shutil.copy(file_of("mistral_common/data/tekken_240718.json"), tmp_path / "model" / "tekken.json")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "mistral"}')
    if not has_tokenizer_json:
        (tmp_path / "model" / "tokenizer.json").unlink()
    tokenizer, known = load_tokenizer(str(tmp_path / "model")), published("mistral_nemo")
    assert tokenizer.is_fast
    assert tokenizer(TEXT).input_ids == known(TEXT).input_ids
