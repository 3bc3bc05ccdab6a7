"""The reward functions of docs/serving.md, called as the trainers call them, and TRL's in a training."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.serving.servers import SlowScorer, serving
from tests.tiny_models import save_model

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
FILE = re.compile(r"<!-- file: (\w+)\.py -->\n```python\n(.*?)^```$", re.M | re.S)
PROBLEM = "Tom has 2 apples?"
STEPS = ["Step 1: Tom has 2 more.", "The answer is: 4"]
LONG = "\n\n".join(["Tom has 9 more."] * 30)


@pytest.fixture
def functions(scorer: SlowScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules of the page, importable, with a server behind them."""
    modules = dict(FILE.findall(PAGE.read_text(encoding="utf-8")))
    assert set(modules) == {"prm_client", "trl_reward", "openrlhf_reward", "verl_reward"}
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ERPRM_API_KEY", "secret")
    with serving(scorer, key="secret") as url:
        monkeypatch.setenv("PRM_URL", url)
        yield
    for name in modules:
        sys.modules.pop(name, None)


def lowest(scorer: SlowScorer, steps: list[str] = STEPS) -> float:
    (row,) = scorer.score([{"problem": PROBLEM, "steps": steps}])
    return float(min(row["scores"]))


def test_trl(scorer: SlowScorer, functions: None) -> None:
    prm_reward = import_module("trl_reward").prm_reward

    texts: list[Any] = ["\n\n".join(STEPS), [{"role": "assistant", "content": STEPS[0]}], LONG]
    found = prm_reward(prompts=[""] * 3, completions=texts, completion_ids=[], problem=[PROBLEM] * 3)
    assert found[:2] == pytest.approx([lowest(scorer), lowest(scorer, STEPS[:1])], abs=1e-5)
    assert found[2] is None


def test_openrlhf(scorer: SlowScorer, functions: None) -> None:
    reward_func = import_module("openrlhf_reward").reward_func

    prompt = f"<|im_start|>user\n{PROBLEM}<|im_end|>\n<|im_start|>assistant\n"
    found = reward_func([prompt + "\n\n".join(STEPS) + "<|im_end|>"], [prompt], ["4"])
    assert found["rewards"].tolist() == pytest.approx([lowest(scorer)], abs=1e-5)
    assert torch.equal(found["scores"], found["rewards"]) and found["extra_logs"]["num_steps"] == 2


def test_verl(scorer: SlowScorer, functions: None) -> None:
    compute_score = import_module("verl_reward").compute_score

    common = {"data_source": "openai/gsm8k", "ground_truth": "4", "extra_info": {"question": PROBLEM}}
    assert compute_score(solution_str="\n\n".join(STEPS), **common) == pytest.approx(lowest(scorer), abs=1e-5)
    assert compute_score(solution_str=LONG, **common) == 0.0


@pytest.mark.thorough
def test_trl_trains_with_the_reward_of_the_server(functions: None, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prm_reward = import_module("trl_reward").prm_reward

    policy = str(save_model(tmp_path / "policy", max_positions=256))
    problems = [f"Tom has {number} apples?" for number in range(4)]
    rows = {"prompt": [f"Question: {problem}\nAnswer:" for problem in problems], "problem": problems}
    trainer = trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(policy),
        processing_class=AutoTokenizer.from_pretrained(policy),
        reward_funcs=prm_reward,
        train_dataset=Dataset.from_dict(rows),
        args=trl.GRPOConfig(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=12,
            max_steps=2,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            bf16=False,
        ),
    )
    trainer.train()
    rewards = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    assert len(rewards) == 2 and all(0 < reward < 1 for reward in rewards)
