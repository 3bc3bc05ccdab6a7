"""What vLLM can score, decided from a model's files: vLLM itself is not needed."""

import errno
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file

from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError, UserError
from erprm_cli.models.file_checks import weight_shapes
from erprm_cli.prm.formats import ER_PRM, PrmFormat, load_prm_format
from erprm_cli.prm.loading import load_tagger
from erprm_cli.prm.tagger import Tagger
from erprm_cli.prm.vllm_classifier import (
    Unsuitable,
    classifier_settings,
    loadable,
    needs_copy,
    start_command,
)
from tests.prm.prm_kinds import KINDS
from tests.tiny_models import make_tokenizer, save_model

TOKEN = load_prm_format(ER_PRM)


def settings(folder: Path, prm_format: PrmFormat = TOKEN) -> dict[str, object]:
    return classifier_settings(EngineConfig(str(folder)), Tagger(prm_format, make_tokenizer()))


def test_a_language_model_becomes_a_classifier_of_two_words(tmp_path: Path) -> None:
    found = settings(save_model(tmp_path))
    assert found["architectures"] == ["LlamaForSequenceClassification"]
    assert found["classifier_from_token"] == [" -", " +"]


HEAD = load_prm_format("trl")


@pytest.mark.parametrize("num_labels", [2, 3])
def test_a_head_becomes_a_classifier_of_its_classes(num_labels: int, tmp_path: Path) -> None:
    found = settings(save_model(tmp_path, "qwen2"), replace(HEAD, num_labels=num_labels))
    assert found["architectures"] == ["Qwen2ForSequenceClassification"] and found["num_labels"] == num_labels


def test_a_value_head_is_one_number(tmp_path: Path) -> None:
    assert settings(save_model(tmp_path), load_prm_format("skywork"))["num_labels"] == 1


def with_two_layers(folder: Path, kind: str) -> Path:
    weights = load_file(save_model(folder, kind) / "model.safetensors")
    save_file(weights | {"score.0.weight": torch.zeros(2, 2)}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_head_of_two_layers_is_qwens_own_architecture(tmp_path: Path) -> None:
    assert settings(with_two_layers(tmp_path / "qwen2", "qwen2"), HEAD)["architectures"] == [
        "Qwen2ForProcessRewardModel"
    ]
    with pytest.raises(Unsuitable, match="vLLM supports a head of two layers for Qwen2 with 2 classes only"):
        settings(with_two_layers(tmp_path / "llama", "llama"), HEAD)


def test_an_architecture_without_a_head_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no token classification model for cohere"):
        settings(save_model(tmp_path, "cohere"), HEAD)


def test_a_language_model_that_is_part_of_another_model_is_refused(tmp_path: Path) -> None:
    config = orjson.loads((save_model(tmp_path) / "config.json").read_bytes())
    config["architectures"] = ["LlavaForConditionalGeneration"]
    (tmp_path / "config.json").write_bytes(orjson.dumps(config))
    with pytest.raises(Unsuitable, match="vLLM supports ...ForCausalLM only; use --engine transformers"):
        settings(tmp_path)


@pytest.mark.parametrize("lost", ["score.bias", "score.weight"])
def test_a_head_that_the_checkpoint_lacks_is_reported_by_transformers(lost: str, tmp_path: Path) -> None:
    make, prm_format = KINDS["trl"]
    config = EngineConfig(make(tmp_path))
    tagger = load_tagger(config.model, prm_format)[1]
    weights = load_file(tmp_path / "model.safetensors")
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=f"has no {lost} of the right size"), loadable(config, tagger):
        pass


@pytest.mark.parametrize("name", KINDS)
def test_a_checkpoint_that_vllm_cannot_load_is_copied_and_the_copy_deleted(name: str, tmp_path: Path) -> None:
    make, prm_format = KINDS[name]
    config = EngineConfig(make(tmp_path / name))
    tagger = load_tagger(config.model, prm_format)[1]
    is_copied = name in ("skywork", "reasoneval", "token-adapters", "head-adapters")
    assert needs_copy(config, tagger) == is_copied
    with loadable(config, tagger) as found:
        assert (found.model != config.model) == is_copied
        names = weight_shapes(found.model)
        assert ("lm_head.weight" if tagger.prm_format.kind == "token" else "score") in " ".join(names)
        assert not any("lora" in one for one in names)
    assert Path(found.model).exists() != is_copied


def test_a_copy_that_does_not_fit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, prm_format = KINDS["skywork"]
    config = EngineConfig(make(tmp_path))
    tagger = load_tagger(config.model, prm_format)[1]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tagger.tokenizer, "save_pretrained", full)
    with pytest.raises(UserError, match="No space left on device.; set TMPDIR"), loadable(config, tagger):
        pass


def test_the_command_of_a_server_is_vllm_if_it_can_load_the_checkpoint(tmp_path: Path) -> None:
    config = EngineConfig(str(save_model(tmp_path / "own")))
    command = start_command(config, Tagger(TOKEN, make_tokenizer()))
    assert command.startswith(f"`vllm serve {config.model} --runner pooling --pooler-config")
    assert start_command(config, Tagger(HEAD, make_tokenizer())) == f"`erprm serve --prm {config.model}`"


@pytest.mark.parametrize(("kind", "cap"), [("gemma2", "final_logit_softcapping"), ("cohere", "logit_scale")])
def test_logits_that_vllm_would_not_change_are_refused(kind: str, cap: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--engine vllm cannot score .*: vLLM ignores its {cap}; use --eng"):
        settings(save_model(tmp_path, kind))
