import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from erprm_cli.errors import UsageError
from erprm_cli.training.config import PolicyTrainingConfig, PrmTrainingConfig, TrainingConfig

# Names, order and types of what a card, a run folder and a sidecar keep: those written by earlier versions
# are compared with them.
TRAINING = {
    "base": "tiny",
    "epochs": 1.0,
    "lr": 5e-07,
    "batch_size": 64,
    "max_length": 512,
    "warmup_ratio": 0.0,
    "weight_decay": 0.0,
    "optim": "adamw_torch_fused",
    "seed": 0,
    "bf16": None,
    "lora_rank": 0,
    "merge_lora": False,
    "revision": None,
}
PRM = {
    "kind": "token",
    "format": "er-prm",
    "target": "labels",
    "weighting": "step",
    "outcome_only": False,
    "truncate": False,
    "eval_fraction": 0.0,
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (PrmTrainingConfig(Path("prm")), TRAINING | PRM),
        (
            PolicyTrainingConfig(Path("policy")),
            TRAINING | {"epochs": 2.0, "batch_size": 128, "max_length": 2048},
        ),
    ],
)
def test_settings_keep_their_names_defaults_and_types(
    config: TrainingConfig, expected: dict[str, Any]
) -> None:
    assert orjson.dumps(config.settings()) == orjson.dumps(expected)
    assert all(type(config.settings()[name]) is type(value) for name, value in expected.items())


def test_a_configuration_goes_to_another_process_and_stays_the_same() -> None:
    config = PrmTrainingConfig(Path("a") / "prm", kind="head", packing=True, eval="held-out.jsonl")
    assert PrmTrainingConfig.from_json(orjson.loads(orjson.dumps(config.to_json()))) == config


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="--merge-lora merges what --lora-rank trains"):
        PrmTrainingConfig(Path("prm"), merge_lora=True)
    with pytest.raises(UsageError, match="give one of them"):
        PrmTrainingConfig(Path("prm"), eval="held-out.jsonl", eval_fraction=0.5)


def test_help_loads_no_heavy_library() -> None:
    program = (
        "import sys, erprm_cli.training.config; print({'torch', 'transformers', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
