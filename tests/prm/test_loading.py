import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForTokenClassification

from erprm_cli.errors import UserError
from erprm_cli.models.file_checks import weight_shapes
from erprm_cli.prm.scorer import Scorer
from erprm_cli.training.config import PrmTrainingConfig
from erprm_cli.training.train import train_prm
from tests.tiny_models import make_model, make_tokenizer, save_model, solution_rows


def save_head(folder: Path, num_labels: int = 2) -> Any:
    """Save a random token classification model and its tokenizer as TRL does; return the model."""
    tokenizer = make_tokenizer()
    config = make_model("llama", len(tokenizer)).config
    torch.manual_seed(1)
    config.num_labels = num_labels
    model = AutoModelForTokenClassification.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def test_a_head_of_two_classes_is_read_at_the_separator(tmp_path: Path) -> None:
    model = save_head(tmp_path)
    scorer = Scorer(str(tmp_path), prm_format="trl")
    tokenizer = make_tokenizer()
    for row in scorer.score(solution_rows(6)):
        tagged = scorer.encode(row)
        logits = model(torch.from_numpy(tagged.ids.astype(int))[None]).logits[0]
        expected = logits[torch.from_numpy(tagged.tags.astype(int))].softmax(-1)[:, 1].tolist()
        assert row["scores"] == pytest.approx(expected, abs=1e-6)
        assert tokenizer.convert_ids_to_tokens(tagged.ids[tagged.tags].tolist()) == ["\n"] * len(row["steps"])


def test_a_model_without_what_the_format_reads_is_refused(tmp_path: Path) -> None:
    save_head(tmp_path / "head")
    with pytest.raises(UserError, match="has no lm_head.weight .*format er-prm .*--prm-format"):
        Scorer(str(tmp_path / "head"), prm_format="er-prm")
    save_model(tmp_path / "causal")
    with pytest.raises(UserError, match="has no score.bias .*format trl"):
        Scorer(str(tmp_path / "causal"), prm_format="trl")
    with pytest.raises(UserError, match="has no score.bias of the right size.*format reasoneval"):
        Scorer(str(tmp_path / "head"), prm_format="reasoneval")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_head_of_two_layers_in_several_files_is_read_in_float32(tmp_path: Path, dtype: str) -> None:
    model = save_head(tmp_path)
    width = model.config.hidden_size
    model.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    assert "score.0.weight" in weight_shapes(str(tmp_path))
    scorer = Scorer(str(tmp_path), prm_format="trl", dtype=dtype)
    assert scorer.model.dtype == getattr(torch, dtype)
    assert {weight.dtype for weight in scorer.model.score.parameters()} == {torch.float32}
    tagged = scorer.encode(solution_rows(4)[3])
    with torch.no_grad():
        hidden = scorer.model.model(torch.from_numpy(tagged.ids.astype(int))[None]).last_hidden_state
        logits = model.score(hidden.float())[0, torch.from_numpy(tagged.tags.astype(int))]
    expected = logits.softmax(-1)[:, 1].tolist()
    assert scorer.probabilities([tagged])[0] == pytest.approx(expected, abs=1e-6)


def test_an_architecture_without_a_head_of_its_own_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, kind="cohere")
    with pytest.raises(UserError, match="no token classification model for cohere"):
        Scorer(str(tmp_path), prm_format="trl")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a head PRM that is adapters of a base in another folder."""
    pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("adapters")
    base = save_model(folder / "base")
    config = PrmTrainingConfig(folder / "prm", str(base), kind="head", lora_rank=4, lr=1e-2, batch_size=8)
    train_prm(solution_rows(32, labels=True), config, lambda row: None)
    return folder / "prm"


def test_adapters_are_read_from_any_directory_and_their_head_in_float32(
    adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exact = [row["scores"] for row in Scorer(str(adapters)).score(solution_rows(8))]
    rounded = Scorer(str(adapters), dtype="bfloat16")
    assert {weight.dtype for weight in rounded.model.score.parameters()} == {torch.float32}
    for row, scores in zip(rounded.score(solution_rows(8)), exact, strict=True):
        assert row["scores"] == pytest.approx(scores, abs=0.05)


def test_adapters_that_lack_a_weight_are_refused(adapters: Path, tmp_path: Path) -> None:
    for lost in ("layers.1.mlp.up_proj.lora_B", "score"):
        folder = tmp_path / lost
        shutil.copytree(adapters, folder)
        kept = {
            name: weight
            for name, weight in load_file(folder / "adapter_model.safetensors").items()
            if lost not in name
        }
        save_file(kept, folder / "adapter_model.safetensors")
        with pytest.raises(UserError, match=f"adapter_model.safetensors has no .*{lost}"):
            Scorer(str(folder))


def test_a_base_that_is_gone_is_named(adapters: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prm"
    shutil.copytree(adapters, folder)
    settings = orjson.loads((folder / "adapter_config.json").read_bytes())
    settings["base_model_name_or_path"] = str(tmp_path / "gone")
    (folder / "adapter_config.json").write_bytes(orjson.dumps(settings))
    with pytest.raises(UserError, match="adapter_config.json: the base model: .*gone: no such folder"):
        Scorer(str(folder))
