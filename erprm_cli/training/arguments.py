"""erprm's training settings as transformers' TrainingArguments."""

from typing import Any, TypeVar

import torch
from transformers import TrainingArguments
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.training_args import OptimizerNames

from erprm_cli.errors import UsageError
from erprm_cli.training.config import TrainingConfig
from erprm_cli.training.distributed import world_size
from erprm_cli.training.run_folder import run_folder

PASS_TOKENS = {"cpu": 2_048, "cuda": 16_384}  # per forward pass, if --micro-batch-tokens is 0


def check_names(config: TrainingConfig) -> None:
    """Raise UsageError unless transformers knows the optimizer and the attention of `config`."""
    optimizers = [str(optimizer.value) for optimizer in OptimizerNames]
    if config.optim not in optimizers:
        raise UsageError(f"no optimizer {config.optim!r}; there are {', '.join(optimizers)}")
    attention = config.attn_implementation
    known = ["eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()]
    # A name with a slash is a kernel on the Hub.
    if attention is not None and "/" not in attention and attention.rpartition("|")[2] not in known:
        raise UsageError(f"no attention {attention!r}; there are {', '.join(sorted(known))}")


def trainer_arguments(config: TrainingConfig) -> TrainingArguments:
    """Return the settings as Trainer names them. Trainer then writes in the run folder only."""
    return on_one_device(
        TrainingArguments(
            **common_arguments(config),
            per_device_train_batch_size=1,  # one item of StepLoader is a whole step
        )
    )


def common_arguments(config: TrainingConfig) -> dict[str, Any]:
    """Return those of the settings that transformers' Trainer and TRL's share."""
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(run_folder(config.output) / "draft"),
        "num_train_epochs": config.epochs,
        "learning_rate": config.lr,
        "lr_scheduler_type": "cosine",
        "warmup_steps": config.warmup_ratio,  # below 1 it is a share of the steps
        "weight_decay": config.weight_decay,
        "optim": config.optim,
        "seed": config.seed,
        "bf16": on_gpu and torch.cuda.is_bf16_supported() if config.bf16 is None else config.bf16,
        "use_cpu": not on_gpu,
        "ddp_backend": "gloo" if world_size() > 1 and not on_gpu else None,
        "ddp_find_unused_parameters": False,
        "gradient_checkpointing": config.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if config.gradient_checkpointing else None,
        "logging_steps": config.log_every,
        "logging_nan_inf_filter": False,  # a trainer's `log` stops at such a loss
        "save_strategy": "steps" if config.save_steps else "no",
        "save_steps": config.save_steps or 500,
        "report_to": config.report_to,
        "run_name": config.output.name,
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }


Arguments = TypeVar("Arguments", bound=TrainingArguments)


def on_one_device(arguments: Arguments) -> Arguments:
    """Return the arguments for a process that drives one device.

    With several, Trainer would use nn.DataParallel, which cannot split our batches.
    """
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments
