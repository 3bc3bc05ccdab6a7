"""The contract with TRL: what the private methods that we override take and return."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rl.runs import short_run

pytest.importorskip("trl")
pytestmark = pytest.mark.slow


def test_trl_still_calls_and_returns_what_we_override() -> None:
    from trl.trainer.grpo_trainer import GRPOTrainer

    for name, parameters in (
        ("_tokenize_prompts", ["self", "prompts"]),
        (
            "_generate_single_turn",
            ["self", "prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"],
        ),
        ("_generate_and_score_completions", ["self", "inputs"]),
        ("_compute_loss", ["self", "model", "inputs"]),
    ):
        assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == parameters, name
    source = inspect.getsource(GRPOTrainer._compute_loss)
    assert "if advantages.dim() == 1:" in source  # advantages of shape [B, T] are accepted


def test_every_token_of_a_batch_gets_the_advantage_of_its_step(
    base: str, problems_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from erprm_cli.rl.advantages import token_advantages
    from erprm_cli.rl.trainer import ProcessGrpoTrainer

    seen: list[tuple[dict[str, Any], Any]] = []
    real = ProcessGrpoTrainer._generate_and_score_completions

    def record(self: Any, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = real(self, inputs)
        seen.append((batch, self.judged))
        return batch

    monkeypatch.setattr(ProcessGrpoTrainer, "_generate_and_score_completions", record)
    rows = short_run(base, problems_file, tmp_path / "run", grpo={"max_steps": 1}, save_steps=0)
    batch, judged = seen[0]
    assert {"prompt_ids", "completion_ids", "completion_mask", "num_items_in_batch"} <= batch.keys()
    assert batch["advantages"].shape == batch["completion_ids"].shape == batch["completion_mask"].shape
    expected = token_advantages(
        "increments",
        judged.earned_BL,
        judged.is_step_BL,
        judged.outcome_B,
        judged.step_BT,
        2,
        outcome_weight=1.0,
        scaled=True,
        max_tokens=100,
    )
    assert torch.equal(batch["advantages"], expected)
    assert rows[-1]["loss"] is not None
