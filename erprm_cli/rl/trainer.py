"""TRL's GRPOTrainer with advantages for each token, from the scores that a PRM gives to the steps.

It overrides three private methods of TRL 1.16 (the extra `rl` allows no other minor version, and
tests/rl/test_trainer.py pins what they take and return):

    _tokenize_prompts                   prompts have the ids that sampling starts from, as in `erprm sample`
    _generate_single_turn               a completion ends at a stop text of the template
    _generate_and_score_completions     advantages become a tensor [B, T], which `_compute_loss` accepts

B completions, N of each problem; L steps, T tokens (both padded)
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import pad
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from erprm_cli.errors import UserError
from erprm_cli.io.writing import write_rows
from erprm_cli.rl.config import GrpoConfig
from erprm_cli.rl.divergence import WARN_AFTER, Divergence
from erprm_cli.rl.judge import Judge, Judged
from erprm_cli.rl.log_rows import Window, log_row, point
from erprm_cli.rl.vllm_on_cpu import replace_sync, started_without_graph
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.checkpoints import SealedCheckpoints
from erprm_cli.training.run_folder import checkpoints

EncodePrompt = Callable[[str], Sequence[int]]  # from the text of a problem to the ids of its prompt
Log = Callable[[Row], object]  # takes a row


class ProcessGrpoTrainer(SealedCheckpoints, GRPOTrainer):
    """GRPO with the advantages of `advantages.py`; every log row goes to `log`."""

    def __init__(
        self,
        model: Any,
        arguments: GRPOConfig,
        config: GrpoConfig,
        judge: Judge,
        problems: Sequence[Row],
        held_out: Sequence[Row],
        encode_prompt: EncodePrompt,
        *,
        directory: Path,
        run: Path,
        log: Log,
        reporter: Reporter,
    ) -> None:
        """Train `model` on `problems`; its tokenizer is the judge's. `held_out` is for greedy evaluation.

        `directory` gets the solutions of the evaluations, `run` the checkpoints.
        """
        self.config, self.judge, self.problems, self.held_out = config, judge, problems, held_out
        self.encode_prompt, self.directory, self.run_folder = encode_prompt, directory, run
        self.log_to, self.reporter = log, reporter
        self.window, self.divergence = Window(), Divergence()
        self.stopped = False  # by --stop-on-divergence
        self.judged: Judged | None = None
        self.n, self.max_tokens = arguments.num_generations or 0, arguments.max_completion_length or 0
        # completions that one process generates together
        self.batch_size = arguments.per_device_train_batch_size * (arguments.steps_per_generation or 1)
        reward_funcs: list[Any] = [self._outcome]
        on_cpu = arguments.use_vllm and arguments.use_cpu
        with started_without_graph() if on_cpu else nullcontext():
            super().__init__(
                model,
                reward_funcs=reward_funcs,
                args=arguments,
                train_dataset=Dataset.from_dict(
                    {"prompt": [row["problem"] for row in problems], "number": list(range(len(problems)))}
                ),
                processing_class=judge.texts.tokenizer,
            )
        if on_cpu:
            replace_sync(self.vllm_generation)
        self.remove_callback(PrinterCallback)
        self.add_callback(_Schedule(self))

    # Completions and their advantages

    def _outcome(self, number: list[int], completion_ids: list[list[int]], **_: Any) -> list[float]:
        """TRL's reward function: the outcomes. It keeps what else the judge says."""
        self.judged = self.judge.judge([self.problems[index] for index in number], completion_ids)
        outcomes: list[float] = self.judged.outcome_B.tolist()
        return outcomes

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [list(self.encode_prompt(prompt)) for prompt in prompts], None, {}

    def _generate_single_turn(self, *arguments: Any, **more: Any) -> tuple[list[list[int]], Any]:
        try:
            completions, logprobs = super()._generate_single_turn(*arguments, **more)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "probability tensor" not in str(error):
                raise
            step = self.state.global_step
            raise UserError(f"the policy is NaN or infinite after step {step}; try a smaller --lr") from None
        completions = [self.judge.cut(ids) for ids in completions]
        if logprobs is not None:
            pairs = zip(logprobs, completions, strict=True)
            logprobs = [values[: len(ids)] for values, ids in pairs]
        return completions, logprobs

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        assert self.judged is not None
        mask_BT = batch["completion_mask"]
        is_truncated_B = self.judged.is_truncated_B.to(mask_BT.device)
        judged = self._gathered(self.judged)
        length_B = self.accelerator.gather(mask_BT.sum(1))
        self.window.add(judged, length_B, self.n)
        advantage_BT = judged.advantages(
            self.config.advantage,
            self.n,
            outcome_weight=self.config.outcome_weight,
            scaled=self.config.scale_rewards == "group",
            max_tokens=self.max_tokens,
        )
        begin = self.accelerator.process_index * len(inputs)
        own_BT = advantage_BT[begin : begin + len(inputs)].to(mask_BT.device)
        batch["advantages"] = pad(own_BT, (0, mask_BT.shape[1]))[:, : mask_BT.shape[1]]
        if self.config.mask_truncated_completions:  # TRL would also mask what ended at a stop text
            batch["completion_mask"] = mask_BT * (1 - is_truncated_B)[:, None].to(mask_BT.dtype)
            batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        return batch

    def _gathered(self, judged: Judged) -> Judged:
        """Return what the judges of all processes say, in the order of the processes.

        A group may be spread over processes.
        """

        def of_all(values: Tensor) -> Tensor:
            values = values.to(self.accelerator.device)
            if values.dim() > 1:
                values = self.accelerator.pad_across_processes(values, dim=1)
            gathered: Tensor = self.accelerator.gather(values)
            return gathered

        return Judged(*(of_all(getattr(judged, name.name)) for name in fields(Judged)))

    # Evaluation

    def accuracy(self, step: int) -> float | None:
        """Return the share of the held-out problems that the policy of `step` solves; None without any.

        The greedy solutions are kept in step-N/eval.jsonl.
        """
        if not self.held_out:
            return None
        rows = self._solved()
        if self.accelerator.is_main_process:
            folder = self.directory / f"step-{step}"
            folder.mkdir(exist_ok=True)
            write_rows(folder / "eval.jsonl", rows, overwrite=True)
        return fmean(row["reward"] for row in rows)

    def _solved(self) -> list[Row]:
        """Return a greedy solution of every held-out problem.

        Every process takes its share of them, in the same number of batches: sharded weights need all.
        """
        rank, world, size = self.accelerator.process_index, self.accelerator.num_processes, self.batch_size
        greedy = replace(self.judge.settings, temperature=0.0, top_p=1.0).row()
        own = self.held_out[rank::world]
        found: list[Row] = []
        with self._greedy():
            for begin in range(0, math.ceil(len(self.held_out) / world), size):
                part = own[begin : begin + size] or self.held_out[:1]
                prompt_ids = [list(self.encode_prompt(problem["problem"])) for problem in part]
                completions, _ = self._generate_single_turn(prompt_ids, None, {}, 1)
                for problem, ids in zip(part, completions, strict=True):
                    row, verdict, _ = self.judge.solution(problem, ids)
                    found.append(row | {"reward": verdict.reward(), "sampling": greedy})
        found = found[: len(own)]
        if world == 1:
            return found
        by_id = {row["id"]: row for row in gather_object(found)}
        return [by_id[problem["id"]] for problem in self.held_out]

    @contextmanager
    def _greedy(self) -> Iterator[None]:
        if self.use_vllm:
            temperature = self.vllm_generation.temperature
            self.vllm_generation.temperature = 0.0
            try:
                yield
            finally:
                self.vllm_generation.temperature = temperature
            return
        sampled = self.generation_config
        self.generation_config = copy.deepcopy(sampled)
        self.generation_config.update(do_sample=False, temperature=None, top_p=None, top_k=None)
        try:
            yield
        finally:
            self.generation_config = sampled

    # The log

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Complete an entry of the history and pass on its row."""
        step = self.state.global_step
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise UserError(
                    # no test: generation fails first
                    f"the loss is {logs['loss']} at step {step}; try a smaller --lr"
                )
            logs.update(self.window.close())
        elif "generated_tokens" not in logs:  # Trainer's summary
            return
        if self.evaluates(step):
            accuracy = self.accuracy(step)
            logs.update({} if accuracy is None else {"accuracy": accuracy})
        super().log(logs, start_time)
        self.log_to(log_row(self.state.log_history[-1]))
        self._watch(self.state.log_history[-1])

    def evaluates(self, step: int) -> bool:
        """Return whether there is an evaluation after this step: the first, the last and every so many."""
        every = self.config.eval_steps
        return step in (0, self.state.max_steps) or (every > 0 and step % every == 0)

    def _watch(self, entry: dict[str, Any]) -> None:
        """Warn of a divergence, or end the run."""
        found = point(entry)
        if found is None:
            return
        self.divergence.add(found)
        rows, limit = self.divergence.rows, self.config.stop_on_divergence
        if limit and rows >= limit:
            self.stopped = self.control.should_training_stop = True
        elif rows == WARN_AFTER:
            self.reporter.warn(
                f"{self.divergence}; the policy may have learned to please the PRM "
                "(--stop-on-divergence N ends such a run)"
            )

    def replay(self) -> None:
        """Pass on the rows of a run that is continued."""
        for entry in self.state.log_history:
            self.log_to(log_row(entry))
            self.window.generated_tokens = int(entry["generated_tokens"])
            found = point(entry)
            if found is not None:
                self.divergence.add(found)

    # Checkpoints

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """As Trainer; of two adapters it loads only the reference, the one with a folder of its own."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        own: Any = self.accelerator.unwrap_model(model or self.model)
        if "ref" in getattr(own, "peft_config", {}):
            own.load_adapter(resume_from_checkpoint, own.active_adapter, is_trainable=True)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """TRL's card is not written: a policy gets erprm's."""

    def kept_checkpoints(self) -> list[Path]:
        best = self.best_checkpoint()
        return [] if best is None else [best]

    def best_checkpoint(self) -> Path | None:
        """Return the checkpoint of the best row so far, if --stop-on-divergence had it saved."""
        best = self.divergence.best
        if not self.config.stop_on_divergence or best is None:
            return None
        path = self.run_folder / f"checkpoint-{best.step}"
        return path if path in checkpoints(self.run_folder) else None


class _Schedule(TrainerCallback):
    """Which steps log, save and end the run; the progress line."""

    def __init__(self, trainer: ProcessGrpoTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.reporter.start("steps", state.global_step, state.max_steps)
        if state.global_step:
            self.trainer.replay()
        else:
            self.trainer.log({"generated_tokens": 0})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        is_last = state.global_step >= state.max_steps
        if is_last:
            control.should_save = False
        if is_last or control.should_save or self.trainer.evaluates(state.global_step):
            control.should_log = True
        rows = [entry for entry in state.log_history if "outcome" in entry]
        note = f"outcome {rows[-1]['outcome']:.3f}" if rows else ""
        self.trainer.reporter.progress(state.global_step, "steps", state.max_steps, note)
        return control

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """With --stop-on-divergence, save the best row so far."""
        trainer = self.trainer
        found = point(state.log_history[-1])
        if trainer.config.stop_on_divergence and found is not None:
            best = trainer.divergence.best
            if best is None or found.outcome.mean >= best.outcome.mean:
                control.should_save = True
        return control
