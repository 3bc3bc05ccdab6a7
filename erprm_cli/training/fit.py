"""One training, from the base model to the folder of the trained one, with transformers' Trainer.

The loss is the mean over all targets of the global batch by their weights, however the batch is divided
into forward passes or over processes (see batches.py). One item of the DataLoader is one optimizer step;
gradients are accumulated over the forward passes of the step.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, set_seed

from erprm_cli.io.ownership import EVENTS
from erprm_cli.models.adapters import add_lora, merged_state
from erprm_cli.models.folder import write_folder
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import TrainingConfig
from erprm_cli.training.distributed import is_main
from erprm_cli.training.run_folder import forget, last_checkpoint
from erprm_cli.training.task import Log, TrainingTask
from erprm_cli.training.trainer import StepTrainer

SMALL_BASE = 1_000_000_000  # parameters; the paper's learning rate is for 8 billion
SMALL_LR = 1e-5


def fit(task: TrainingTask, settings: Row, run: Path, log: Log, reporter: Reporter) -> Row:
    """Train from the last checkpoint in the run folder `run`, or from the start; return the last log row.

    At the end the model is saved and `run` deleted.
    """
    config = task.config
    arguments = task.arguments  # before the model: it tells transformers how weights are sharded
    set_seed(config.seed)  # adapters and heads start from random weights
    model = prepare_model(task, reporter)
    model.config.use_cache = False
    checkpoint = last_checkpoint(run, reporter)
    if checkpoint is None and is_main():
        shutil.rmtree(run / EVENTS, ignore_errors=True)
    if config.report_to == "tensorboard":
        reporter.info(f"tensorboard --logdir {run / EVENTS} shows the run, {config.output / EVENTS} keeps it")
    if arguments.world_size > 1:
        torch.distributed.barrier()  # every process looks for checkpoints before a new one is begun
    begin = time.monotonic()
    trainer = StepTrainer(model, arguments, task, run, log, reporter)
    trainer.train(resume_from_checkpoint=checkpoint)
    seconds = time.monotonic() - begin
    tokens = task.stats["tokens"] * trainer.steps_here / max(1, len(trainer.get_train_dataloader()))
    last = trainer.last | {
        "rows": task.store.count,
        "left_out": task.stats["too_long"],
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "model": str(config.output),
    }
    card, readme = task.card(settings, last)
    save(trainer, config, task.tokenizer, card, readme)
    if is_main():
        if (run / EVENTS).exists():
            shutil.move(run / EVENTS, config.output / EVENTS)
        forget(run)
    trainer.accelerator.wait_for_everyone()
    return last


def prepare_model(task: TrainingTask, reporter: Reporter) -> Any:
    """Load the base model, add LoRA adapters if asked to, and warn about what looks wrong.

    Trained weights are float32, whatever number type the model computes in.
    """
    config = task.config
    frozen_dtype = torch.bfloat16 if config.lora_rank and task.arguments.bf16 else torch.float32
    model = task.load_model(frozen_dtype)
    if model.num_parameters() < SMALL_BASE and config.lr < SMALL_LR:
        reporter.warn(
            f"--lr {config.lr:g} suits a base with billions of parameters; {config.base} has "
            f"{model.num_parameters():,} and will hardly change (for tiny, try --lr 1e-3)"
        )
    if task.tokenizer.pad_token_id is None:
        task.tokenizer.pad_token = task.tokenizer.eos_token or task.tokenizer.unk_token
        model.config.pad_token_id = task.tokenizer.pad_token_id
        reporter.warn(
            f"{config.base} has no padding token; the saved tokenizer pads with "
            f"{task.tokenizer.pad_token!r} (training here does not use it)"
        )
    if not config.lora_rank:
        return model
    adapted = add_lora(model, config.base, config.lora_rank, revision=config.revision)
    if config.gradient_checkpointing:
        adapted.enable_input_require_grads()
    return adapted


def save(trainer: Trainer, config: TrainingConfig, tokenizer: Any, card: Row, readme: str) -> None:
    """Gather the weights if they are sharded, and write the folder in the first process."""
    accelerator = trainer.accelerator
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    state = accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if is_main():
        model = accelerator.unwrap_model(trainer.model_wrapped)
        model.config.use_cache = True
        if config.merge_lora:
            if state is None:
                model = model.merge_and_unload()
            else:
                model, state = model.get_base_model(), merged_state(model, state)
        write_folder(config.output, model, tokenizer, card, readme, state)
    accelerator.wait_for_everyone()
