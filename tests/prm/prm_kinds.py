"""Small random PRMs of every kind, in the checkpoint layouts of their owners and with real architectures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification

from erprm_cli.prm.export import export_prm
from erprm_cli.training.config import PrmTrainingConfig
from erprm_cli.training.train import train_prm
from tests.tiny_models import make_tokenizer, solution_rows

WIDTH = 64


def save_base(folder: Path, model_type: str = "qwen2", cls: Any = AutoModelForCausalLM, **more: Any) -> str:
    """Save a random model whose sizes vLLM's CPU kernels accept, and its tokenizer."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_0>"]})  # Qwen2.5-Math-PRM's tag
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type,
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        initializer_range=0.2,  # wide, so that scores differ from one half
        tie_word_embeddings=False,
        sliding_window=None,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **more,
    )
    cls.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def with_head(folder: Path, name: str, head: nn.Module, model_type: str = "qwen2", **settings: Any) -> str:
    """Save a checkpoint with the head `name` of a project of its own, whose code is not there."""
    save_base(folder, model_type)
    own = {f"{name}.{key}": value.clone() for key, value in head.state_dict().items()}
    save_file(load_file(folder / "model.safetensors") | own, folder / "model.safetensors", {"format": "pt"})
    config = orjson.loads((folder / "config.json").read_bytes())
    config |= {"auto_map": {"AutoModel": "own.OwnModel"}} | settings
    (folder / "config.json").write_bytes(orjson.dumps(config))
    return str(folder)


def trained(folder: Path, **settings: Any) -> str:
    """Train a PRM of erprm."""
    base = save_base(folder / "base", "llama")
    config = PrmTrainingConfig(folder / "prm", base, lr=1e-2, batch_size=8, **settings)
    train_prm(solution_rows(16, labels=True), config, lambda _: None)
    return str(folder / "prm")


def qwen_math_prm(folder: Path) -> str:
    head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
    return with_head(folder, "score", head, architectures=["Qwen2ForProcessRewardModel"])


def exported(folder: Path) -> str:
    export_prm(save_base(folder / "base", "llama"), folder / "prm", "head", prm_format="er-prm")
    return str(folder / "prm")


# By name: how it is made, and the format it is read with (None: its own).
KINDS: dict[str, tuple[Callable[[Path], str], str | None]] = {
    "token": (lambda folder: save_base(folder, "mistral"), "er-prm"),
    "qwen-math-prm": (qwen_math_prm, "qwen"),
    "trl": (lambda folder: save_base(folder, "qwen2", AutoModelForTokenClassification), "trl"),
    "exported": (exported, None),
    "skywork": (
        lambda folder: with_head(
            folder, "v_head.summary", nn.Linear(WIDTH, 1), architectures=["Qwen2ForPrmModel"]
        ),
        "skywork",
    ),
    "reasoneval": (
        lambda folder: with_head(
            folder, "score_head", nn.Linear(WIDTH, 3), "mistral", architectures=["ReasonEval_7B"]
        ),
        "reasoneval",
    ),
    "token-adapters": (lambda folder: trained(folder, lora_rank=4), None),
    "head-adapters": (lambda folder: trained(folder, lora_rank=4, kind="head"), None),
}
