"""transformers' Trainer with erprm's batches, a loss at chosen positions and checkpoints all or nothing.

N targets of a micro-batch, n of an example; V rows of the output layer that the loss reads
"""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback

from erprm_cli.errors import UserError
from erprm_cli.io.ownership import EVENTS
from erprm_cli.models.outputs import output_at
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.arguments import PASS_TOKENS
from erprm_cli.training.batches import BatchPlan, StepLoader, collate
from erprm_cli.training.checkpoints import SealedCheckpoints
from erprm_cli.training.examples import Examples
from erprm_cli.training.task import Log, TrainingTask


class StepTrainer(SealedCheckpoints, Trainer):
    """Trainer whose steps are divided as batches.py says. `last` is the last log row."""

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        task: TrainingTask,
        run: Path,
        log: Log,
        reporter: Reporter,
    ) -> None:
        self.task, self.run_folder, self.log_row = task, run, log
        self.last: Row = {}
        self.steps_here = 0  # without those before a restart
        examples = task.store.examples()
        assert examples is not None
        super().__init__(model, arguments, train_dataset=examples)
        self.remove_callback(PrinterCallback)
        self.add_callback(_Schedule)
        self.add_callback(_Steps(self, reporter))
        for callback in self.callback_handler.callbacks:
            # Trainer would write into draft/, unless TENSORBOARD_LOGGING_DIR names a folder.
            if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(run / EVENTS)
        config = task.config
        attention = getattr(model.config, "_attn_implementation", None) or ""
        self.plan = BatchPlan(
            config.micro_batch_tokens or PASS_TOKENS[arguments.device.type],
            "flash" in attention if config.packing is None else config.packing,
            arguments.process_index,
            arguments.world_size,
        )

    def get_train_dataloader(self) -> StepLoader:
        return StepLoader(self.task.store.examples(), self.plan, self.task.config.batch_size, self.args.seed)  # type: ignore[arg-type]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Return the micro-batches of one step. Their weights are already shares of the whole batch."""
        return [next(epoch_iterator) for _ in range(num_batches)], None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Accumulate the gradients of a step's micro-batches; return the part of the loss of this process."""
        model.train()
        self.steps_here += 1
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        more = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
        total = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(inputs, start=1):
            is_last = number == len(inputs)
            self.accelerator.gradient_state._set_sync_gradients(is_last)
            # Processes exchange gradients in the last pass only. With sharded weights they do in every pass:
            # whole gradients would need the memory that sharding saves.
            local = not is_last and not sharded
            with self.accelerator.no_sync(model) if local else nullcontext():
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, self._prepare_inputs(batch))
                self.accelerator.backward(loss, **more)
            total += loss.detach()
        return total

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss_N = self.task.loss(self.logits(model, inputs), inputs["targets"])
        # DDP and FSDP average the gradients of the processes, but the loss is a sum over them.
        return (loss_N * inputs["weights"]).sum() * self.accelerator.num_processes

    def logits(self, model: Any, inputs: Any) -> Tensor:
        """Return the logits [N, V] at the positions of a micro-batch."""
        read = {name: inputs[name] for name in ("input_ids", "position_ids") if name in inputs}
        with output_at(self.accelerator.unwrap_model(model), inputs["positions"], self.task.output_rows):
            logits_NV: Tensor = model(**read, use_cache=False).logits
        return logits_NV

    @torch.no_grad()
    def judge(self, examples: Examples) -> list[Tensor]:
        """Return the logits [n, V] of each example, gathered from all processes."""
        from accelerate.utils import gather_object

        self.model_wrapped.eval()
        found: list[tuple[int, Tensor]] = []
        for part in self.plan.parts(examples.lengths.tolist()):
            chosen = examples.take(part or [0])
            inputs = self._prepare_inputs(collate(chosen, self.plan.packed))
            with self.compute_loss_context_manager():
                logits_NV = self.logits(self.model_wrapped, inputs).float().cpu()
            split = logits_NV.split([len(example.positions) for example in chosen])
            found += zip(part, split, strict=False)
        self.model_wrapped.train()
        if self.accelerator.num_processes > 1:
            found = gather_object(found)
        return [logits for _, logits in sorted(found, key=lambda pair: pair[0])]

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # nobody reads it, and counting walks over all parameters in each micro-batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" not in logs:
            return
        step = self.state.global_step
        if not math.isfinite(logs["loss"]):
            raise UserError(f"the loss is {logs['loss']} at step {step}; try a smaller --lr, or --no-bf16")
        self.last = {
            "step": step,
            "epoch": float(self.state.epoch or 0.0),
            "loss": logs["loss"],
            "lr": float(logs["learning_rate"]),
            "grad_norm": float(logs["grad_norm"]),
        }
        if self.task.store.examples("eval") is not None:
            self.last |= {name: None for name in EVAL_NAMES}
            if self.ends_epoch() or step >= self.state.max_steps:
                self.last |= self.task.evaluate(self.judge)
        more = {
            name: value
            for name, value in self.last.items()
            if value is not None and name not in ("step", "lr")
        }
        super().log(logs | more)
        self.log_row(self.last)

    def ends_epoch(self) -> bool:
        """Return whether this step is the last of an epoch."""
        return self.state.global_step % len(self.get_train_dataloader()) == 0


EVAL_NAMES = ("eval_loss", "eval_brier", "eval_ece", "eval_auc")


class _Schedule(TrainerCallback):
    """Log also the last step and each that saves or evaluates; the last step saves no checkpoint."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step >= state.max_steps:
            control.should_save = False
            control.should_log = True
        if control.should_save or float(state.epoch).is_integer():
            control.should_log = True
        return control


class _Steps(TrainerCallback):
    """Shows the optimizer steps and the loss as progress."""

    def __init__(self, trainer: StepTrainer, reporter: Reporter) -> None:
        self.trainer, self.reporter = trainer, reporter

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.reporter.start("steps", state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        last = self.trainer.last
        note = f"loss {last['loss']:.4f}" if last else ""
        self.reporter.progress(state.global_step, "steps", state.max_steps, note)
