"""The cards of models and of rows, as huggingface_hub and datasets read them."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from huggingface_hub import DatasetCard, ModelCard

from erprm_cli.models.cards import policy_model_card, prm_model_card
from tests.tiny_models import solution_rows

SHARING = Path(__file__).parents[2] / "docs" / "sharing.md"


def prm_card(base: str, kind: str = "token", **others: Any) -> dict[str, Any]:
    """Return the metadata of the card of a PRM."""
    settings = {"base": base, "outcome_only": False} | others.pop("settings", {})
    card = {
        "kind": kind,
        "settings": settings,
        "result": {"rows": 2, "left_out": 0, "loss": 0.5, "step": 1},
        "format": {"prompt": "{problem} ", "between": "", "tag": " ки", "good": " +", "bad": " -"},
        "token_ids": {"tag": 1, "good": 2, "bad": 3},
    }
    return metadata(prm_model_card(card | others))


def metadata(card: str) -> dict[str, Any]:
    """Return the metadata of a card, as huggingface_hub reads it."""
    return {name: value for name, value in vars(ModelCard(card).data).items() if value is not None}


def test_a_card_names_its_base_model_its_dataset_and_no_licence() -> None:
    assert prm_card("meta-llama/Llama-3.1-8B", datasets=["peiyi9979/Math-Shepherd"]) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": "meta-llama/Llama-3.1-8B",
        "base_model_relation": "finetune",
        "datasets": ["peiyi9979/Math-Shepherd"],
        "tags": ["process-reward-model", "erprm"],
    }


@pytest.mark.parametrize("base", ["tiny", "/models/llama", "./prm", "runs/prm"])
def test_a_base_that_is_not_on_the_hub_is_not_named(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "prm").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not {"base_model", "base_model_relation", "datasets"} & prm_card(base).keys()


def test_a_head_classifies_tokens_and_adapters_need_peft() -> None:
    assert prm_card("a/b", "head")["pipeline_tag"] == "token-classification"
    lora = {"lora_rank": 16, "merge_lora": False}
    adapters = prm_card("a/b", settings=lora)
    assert (adapters["library_name"], adapters["base_model_relation"]) == ("peft", "adapter")
    exported = prm_card("a/b", settings=lora, exported_from="prm")  # which merges them
    merged = prm_card("a/b", settings=lora | {"merge_lora": True})
    assert exported["library_name"] == merged["library_name"] == "transformers"


def test_the_card_of_a_policy_is_read() -> None:
    card = {
        "settings": {"base": "a/b"},
        "result": {"rows": 2, "left_out": 0, "loss": 0.5, "step": 1},
    }
    assert metadata(policy_model_card(card))["base_model"] == "a/b"


def test_rows_with_the_card_of_the_docs_load_as_a_dataset(erprm: Callable[..., Any], tmp_path: Path) -> None:
    rows = b"".join(orjson.dumps(row) + b"\n" for row in solution_rows(4, labels=True))
    (tmp_path / "labels.jsonl").write_bytes(rows)
    block = re.search(r"<!-- dataset card -->\n```sh\n(.*?)^```", SHARING.read_text(), re.M | re.S)
    assert block is not None and shutil.which("bash")
    subprocess.run(["bash", "-euc", block[1]], cwd=tmp_path, check=True)
    card = DatasetCard.load(tmp_path / "rows" / "README.md")
    assert vars(card.data)["tags"] == ["process-reward-model", "erprm"]
    done = erprm("convert", f"hf://{tmp_path / 'rows'}:train")
    assert [orjson.loads(line)["labels"] for line in done.stdout.splitlines()] == [
        orjson.loads(line)["labels"] for line in rows.splitlines()
    ]
