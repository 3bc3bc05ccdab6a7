from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification

from erprm_cli.errors import UserError
from erprm_cli.prm.export import as_head, export_prm
from erprm_cli.prm.scorer import Scorer
from erprm_cli.training.config import PrmTrainingConfig
from erprm_cli.training.train import train_prm
from tests.tiny_models import make_model, save_model, solution_rows


@pytest.fixture(scope="module")
def prm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prm")
    config = PrmTrainingConfig(
        base=str(save_model(folder / "base")), output=folder / "prm", lr=1e-2, batch_size=16
    )
    train_prm(solution_rows(32, labels=True), config, lambda row: None)
    return folder / "prm"


def scores(folder: Path) -> list[Any]:
    return [row["scores"] for row in Scorer(str(folder)).score(solution_rows(24))]


def test_a_head_scores_as_the_tokens_it_was_made_of(prm: Path, tmp_path: Path) -> None:
    card = export_prm(str(prm), tmp_path / "head", "head")
    assert card["kind"] == card["format"]["kind"] == "head" and card["eta"] == 2.0
    for one, other in zip(scores(prm), scores(tmp_path / "head"), strict=True):
        assert np.allclose(one, other, atol=1e-6)
    saved = orjson.loads((tmp_path / "head" / "erprm.json").read_bytes())
    assert saved["exported_from"] == str(prm)


def test_transformers_alone_reads_the_head(prm: Path, tmp_path: Path) -> None:
    export_prm(str(prm), tmp_path / "head", "head")
    model, info = AutoModelForTokenClassification.from_pretrained(tmp_path / "head", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    scorer = Scorer(str(prm))
    (row,) = solution_rows(1)
    tagged = scorer.encode(row)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(tagged.ids[None].astype(np.int64))).logits[0]
    assert logits.softmax(-1)[tagged.tags, 1].tolist() == pytest.approx(
        next(scorer.score([row]))["scores"], abs=1e-6
    )


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2"])
def test_an_architecture_that_changes_its_logits_is_refused(kind: str) -> None:
    model = make_model(kind, 60)
    if kind == "gemma2":
        with pytest.raises(UserError, match="caps its logits .final_logit_softcapping 3.*--kind token"):
            as_head(model, 10, 11)
        model.config.final_logit_softcapping = None  # and what is not known by name shows in a trial
        forward = model.lm_head.forward
        model.lm_head.forward = lambda hidden: forward(hidden).tanh()
        with pytest.raises(UserError, match="changes its logits after"):
            as_head(model, 10, 11)
    else:
        assert as_head(model, 10, 11).config.num_labels == 2


def test_an_existing_folder_is_not_touched(prm: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        export_prm(str(prm), tmp_path, "head")


def test_a_head_is_not_exported_again(prm: Path, tmp_path: Path) -> None:
    export_prm(str(prm), tmp_path / "head", "head")
    with pytest.raises(UserError, match="only a PRM of kind token"):
        export_prm(str(tmp_path / "head"), tmp_path / "again", "head")


def test_an_architecture_without_token_classification_is_refused() -> None:
    config = AutoConfig.for_model("mamba", vocab_size=40, hidden_size=16, num_hidden_layers=1)
    with pytest.raises(UserError, match="no token classification model for mamba; use --kind token"):
        as_head(AutoModelForCausalLM.from_config(config), 3, 4)
