"""What the training of a PRM and of a policy share: transformers' Trainer, checkpoints, the output folder.

The loss is a mean over all targets of the global batch by their weights, the same however the batch is cut
into forward passes or spread over processes (batches.py says how). One item of the
DataLoader is one optimizer step; gradients are accumulated over the passes that a step needs.

N targets of a micro-batch, V rows of the output layer that count
"""

import shutil
import time
from pathlib import Path

import torch
from transformers import Trainer, set_seed

from erprm_cli.models.adapters import merged_state
from erprm_cli.models.folder import write_folder
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.distributed import is_main
from erprm_cli.training.run_folder import EVENTS, forget, last_checkpoint
from erprm_cli.training.task import Log, TrainingTask
from erprm_cli.training.trainer import StepTrainer


def fit(data: TrainingTask, settings: Row, run: Path, log: Log, reporter: Reporter) -> Row:
    """Train, from the last checkpoint in `run` if there is one, save the model and remove `run`."""
    config = data.config
    arguments = data.arguments  # before the model: it tells transformers how weights are spread
    set_seed(config.seed)  # of adapters and heads, which begin at random
    model = data.prepare_model(reporter)
    model.config.use_cache = False
    checkpoint = last_checkpoint(run, reporter)
    if checkpoint is None and is_main():
        shutil.rmtree(run / EVENTS, ignore_errors=True)
    if config.report_to == "tensorboard":
        reporter.info(f"tensorboard --logdir {run / EVENTS} shows the run, {config.output / EVENTS} keeps it")
    if arguments.world_size > 1:
        torch.distributed.barrier()  # all have looked before the draft of a checkpoint is begun
    begin = time.monotonic()
    trainer = StepTrainer(model, arguments, data, run, log)
    trainer.train(resume_from_checkpoint=checkpoint)
    seconds = time.monotonic() - begin
    examples = data.examples()
    assert examples is not None
    tokens = data.facts["tokens"] * trainer.steps_here / max(1, len(trainer.get_train_dataloader()))
    last = trainer.last | {
        "rows": len(examples),
        "left_out": data.facts["too_long"],
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "model": str(config.output),
    }
    card, readme = data.card(settings, last)
    save(trainer, data, card, readme)
    if is_main():
        if (run / EVENTS).exists():
            shutil.move(run / EVENTS, config.output / EVENTS)
        forget(run)
    trainer.accelerator.wait_for_everyone()
    return last


def save(trainer: Trainer, data: TrainingTask, card: Row, readme: str) -> None:
    """Gather the weights from wherever they are spread, and let the first process write the folder."""
    accelerator = trainer.accelerator
    spread = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    state = accelerator.get_state_dict(trainer.model_wrapped) if spread else None
    if is_main():
        model = accelerator.unwrap_model(trainer.model_wrapped)
        model.config.use_cache = True
        if data.config.merge_lora:
            if state is None:
                model = model.merge_and_unload()
            else:
                model, state = model.get_base_model(), merged_state(model, state)
        write_folder(data.config.output, model, data.tokenizer, card, readme, state)
    accelerator.wait_for_everyone()
