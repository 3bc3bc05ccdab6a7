"""What a training would do, with --dry-run: from the examples and the size of the base model."""

from math import ceil

import torch

from erprm_cli.models.size import ModelSize, model_size
from erprm_cli.rows.row import Row
from erprm_cli.training.config import PolicyTrainingConfig, TrainingConfig
from erprm_cli.training.task import TrainingTask

# Bytes for each parameter that is trained: its value, its gradient and AdamW's two moments, all in float32.
TRAINED_BYTES = 16


def training_plan(task: TrainingTask) -> Row:
    """Return what a training on the examples of `task` would do."""
    config = task.config
    size = model_size(config.base, revision=config.revision, trust_remote_code=config.trust_remote_code)
    return {
        "solutions": task.store.count,
        "left_out": task.stats["too_long"],
        "steps": num_steps(task.store.count, config),
        "tokens": round(task.stats["tokens"] * config.epochs),
        **training_size(size, config),
    }


def num_steps(num_examples: int, config: TrainingConfig) -> int:
    """Return the number of optimizer steps."""
    return ceil(config.epochs * ceil(num_examples / config.batch_size))


def training_size(size: ModelSize, config: TrainingConfig | PolicyTrainingConfig) -> Row:
    """Return the size of the model, and the memory of a training without what activations take, in GiB.

    Processes that share the weights (FSDP2, zero3) share this memory. Adapters are small beside their base,
    which stays frozen, in bfloat16 if the training computes in it.
    """
    bf16 = torch.cuda.is_available() if config.bf16 is None else config.bf16
    frozen = torch.bfloat16 if bf16 else torch.float32
    held = size.weights_gib(frozen) if config.lora_rank else size.parameters * TRAINED_BYTES / 2**30
    return size.row(torch.float32) | {"training_gib": round(held, 3)}
