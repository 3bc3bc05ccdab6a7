"""A tokenizer whose class does not suit its tokenizer.json is replaced, and no other."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from erprm_cli.models.loading import load_tokenizer
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
