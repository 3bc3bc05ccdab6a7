import shutil
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from erprm_cli import shipped
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError
from erprm_cli.io.reading import read_rows
from erprm_cli.models.folder import CARD
from erprm_cli.options import LocalEngineName
from erprm_cli.prm.formats import load_prm_format
from erprm_cli.prm.scoring import chosen_engine, open_scorer
from erprm_cli.prm.step_scorer import StepScorer
from erprm_cli.prm.tagger import Tagger

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]


def save_prm(folder: Path, kind: str | None) -> Path:
    """Save the shipped policy, or a random model of `kind` with its tokenizer, as a PRM."""
    import torch

    shutil.copytree(shipped.resolve("tiny"), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if kind is not None:
        torch.manual_seed(0)
        (folder / "model.safetensors").unlink()
        config = AutoConfig.for_model(
            kind,
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=32,
            max_position_embeddings=256,
            initializer_range=0.2,
            tie_word_embeddings=False,
        )
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    prm_format = load_prm_format("er-prm")
    card = {"format": asdict(prm_format), "token_ids": asdict(Tagger(prm_format, tokenizer).token_ids)}
    (folder / CARD).write_bytes(orjson.dumps(card))
    return folder


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")


def solutions() -> list[dict[str, Any]]:
    """Return right and wrong solutions of 1 to 5 steps."""
    rows = []
    for number, problem in enumerate(read_rows("tiny:test", as_problem, limit=60)):
        steps = [
            f"Step {step}: add, {number} + {step} = {number + step}." for step in range(1, 2 + number % 5)
        ]
        rows.append(problem | {"sample": 0, "solution": "\n".join(steps), "steps": steps})
    return rows


def check_that_known_prefixes_are_not_read(
    scorer: StepScorer, rows: list[dict[str, Any]], expected: list[list[float]]
) -> None:
    """Solutions are in the prefix cache from scoring, but for their last block of 32 tokens at least."""
    solutions, before = [(row, scorer.encode(row)) for row in rows], scorer.num_tokens
    for is_whole in (True, False):
        found = scorer.read(solutions, is_whole=is_whole)
        for ours, theirs in zip(found, expected, strict=True):
            read = [score is not None for score in ours]
            assert read == sorted(read) and read[-1] and (all(read) or not is_whole)
            pairs = [(one, other) for one, other in zip(ours, theirs, strict=True) if one is not None]
            assert all(abs(one - other) < 1e-5 for one, other in pairs)
    whole = sum(len(tagged.ids) for _, tagged in solutions)
    assert whole < scorer.num_tokens - before < 1.6 * whole
    assert any(None in scores for scores in found)


@pytest.mark.parametrize("kind", [None, "qwen3"], ids=["tiny", "qwen3"])
def test_scores_equal_those_of_transformers(kind: str | None, tmp_path: Path, settings: None) -> None:
    folder = str(save_prm(tmp_path / "prm", kind))
    rows = solutions()
    found = []
    engines: tuple[LocalEngineName, ...] = ("transformers", "vllm")
    for name in engines:
        scorer = open_scorer(EngineConfig(folder, name, enforce_eager=True))
        found.append(list(scorer.score(rows)))
        if name == "vllm":
            check_that_known_prefixes_are_not_read(scorer, rows, [row["scores"] for row in found[0]])
        scorer.close()
    expected, scored = found
    assert [row["id"] for row in scored] == [row["id"] for row in rows]  # in order
    assert [row["prm"] for row in scored] == [folder] * len(rows)
    pairs = [
        pair
        for one, other in zip(expected, scored, strict=True)
        for pair in zip(one["scores"], other["scores"], strict=True)
    ]
    assert len(pairs) == 180
    assert max(abs(one - other) for one, other in pairs) < 1e-5
    assert max(one for one, _ in pairs) - min(one for one, _ in pairs) > 0.01


def test_a_model_whose_logits_vllm_would_leave_unchanged_is_refused(tmp_path: Path) -> None:
    folder = save_prm(tmp_path / "prm", None)
    config = orjson.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_bytes(orjson.dumps(config | {"final_logit_softcapping": 30.0}))
    with pytest.raises(UsageError, match="ignores its final_logit_softcapping"):
        open_scorer(EngineConfig(str(folder), "vllm"))


def test_auto_is_vllm_on_a_gpu_but_not_for_a_model_that_it_would_score_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erprm_cli.prm.scoring.local_engine", lambda: "vllm")  # as on a machine with a GPU
    folder = save_prm(tmp_path / "prm", None)
    assert chosen_engine(EngineConfig(str(folder))) == "vllm"
    config = orjson.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_bytes(orjson.dumps(config | {"logits_scaling": 2.0}))
    assert type(open_scorer(EngineConfig(str(folder)))).__name__ == "Scorer"
