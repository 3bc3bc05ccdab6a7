"""What vLLM can score, decided from a model's files: vLLM itself is not needed."""

from pathlib import Path

import pytest

from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError
from erprm_cli.prm.formats import ER_PRM, PrmFormat, load_prm_format
from erprm_cli.prm.tagger import Tagger
from erprm_cli.prm.vllm_scorer import classifier_settings
from tests.tiny_models import make_tokenizer, save_model

TOKEN = load_prm_format(ER_PRM)


def settings(folder: Path, prm_format: PrmFormat = TOKEN) -> dict[str, object]:
    return classifier_settings(EngineConfig(str(folder)), Tagger(prm_format, make_tokenizer()))


def test_a_language_model_becomes_a_classifier_of_two_words(tmp_path: Path) -> None:
    found = settings(save_model(tmp_path))
    assert found["architectures"] == ["LlamaForSequenceClassification"]
    assert found["classifier_from_token"] == [" -", " +"]


def test_a_model_with_a_head_is_refused(tmp_path: Path) -> None:
    head = PrmFormat("head", "{problem} ", " ки", kind="value")
    with pytest.raises(UsageError, match="supports token PRMs only; head needs --engine transformers"):
        settings(save_model(tmp_path), head)


def test_adapters_are_refused(tmp_path: Path) -> None:
    (save_model(tmp_path) / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "x", "peft_type": "LORA"}'
    )
    with pytest.raises(UsageError, match="holds adapters: use --engine transformers, or merge them once"):
        settings(tmp_path)


@pytest.mark.parametrize(("kind", "cap"), [("gemma2", "final_logit_softcapping"), ("cohere", "logit_scale")])
def test_logits_that_vllm_would_not_change_are_refused(kind: str, cap: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--engine vllm cannot score .*: vLLM ignores its {cap}; use --eng"):
        settings(save_model(tmp_path, kind))
