"""One GRPO training, from the policy and the PRM to the folder of the trained policy."""

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

import torch
from transformers import set_seed
from trl.trainer.grpo_config import GRPOConfig

from erprm_cli.answers.grader import Grader
from erprm_cli.models.cards import policy_model_card
from erprm_cli.models.end_tokens import as_list, end_tokens
from erprm_cli.policy.prompts import make_prompt
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.prm.scorer import Scorer
from erprm_cli.rl.arguments import grpo_arguments
from erprm_cli.rl.grpo import Grpo
from erprm_cli.rl.judge import Judge
from erprm_cli.rl.trainer import ProcessGrpoTrainer
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.distributed import Silence, is_main
from erprm_cli.training.fit import prepare_model, save
from erprm_cli.training.policy_task import PolicyTask
from erprm_cli.training.run_folder import checkpoints, forget, last_checkpoint, run_folder

PARTS = ("problems.jsonl", "eval.jsonl")  # of the run folder, beside those of every training


class GrpoTask(PolicyTask):
    """The policy of a GRPO run: its tokenizer, its weights and its card."""

    def __init__(self, run: Grpo) -> None:
        self.run = run
        super().__init__(run.template, run.training)

    @cached_property
    def arguments(self) -> GRPOConfig:
        run = self.run
        return grpo_arguments(run.config, run.grpo, run.training, run.engine, run.use_vllm)


def fit(run: Grpo, problems: list[Row], settings: Row, log: Callable[[Row], object]) -> None:
    """Train from the last checkpoint, or from the start; pass on the rows of the log.

    At the end the policy is saved, with `settings` in its card, and the run folder deleted.
    """
    rows: list[Row] = []

    def keep(row: Row) -> None:
        rows.append(row)
        if is_main():
            log(row)

    folder = run_folder(run.training.output)
    reporter = run.reporter if is_main() else Silence()
    try:
        with Grader(run.bad.note if run.bad else None) as grader:
            last = _fit(run, problems, settings, grader, keep, reporter, rows)
    except BaseException:
        if is_main() and not checkpoints(folder):
            forget(folder)  # there is nothing to continue from
        raise
    keep(last)


def _fit(
    run: Grpo,
    problems: list[Row],
    settings: Row,
    grader: Grader,
    log: Callable[[Row], object],
    reporter: Reporter,
    rows: list[Row],
) -> Row:
    config, training = run.config, run.training
    folder = run_folder(training.output)
    task = GrpoTask(run)
    arguments = task.arguments  # before the model: it tells transformers how weights are sharded
    set_seed(config.seed)  # adapters start from random weights
    model = prepare_model(task, reporter)
    checkpoint = last_checkpoint(folder, reporter)
    if arguments.world_size > 1:
        torch.distributed.barrier()  # every process looks for checkpoints before a new one is begun
    scorer = Scorer(
        config.prm,
        prm_format=config.prm_format,
        dtype=run.engine.dtype,
        trust_remote_code=run.engine.trust_remote_code,
        allow_pickle=run.engine.allow_pickle,
    )
    tokenizer = task.tokenizer
    sampling = SamplingSettings(
        str(training.output),
        None,
        config.temperature,
        config.top_p,
        config.max_tokens,
        config.seed,
        run.template.name,
        run.template.options(),
    )

    @lru_cache
    def encode_prompt(problem: str) -> tuple[int, ...]:
        ids = make_prompt(run.template, tokenizer, problem)
        assert isinstance(ids, tuple)  # as there is a tokenizer
        return ids

    ends = end_tokens(model) + as_list(tokenizer.eos_token_id)
    judge = Judge(run.template, tokenizer, ends, scorer, grader, sampling)
    trainer = ProcessGrpoTrainer(
        model,
        arguments,
        run.grpo,
        judge,
        problems,
        run.eval_problems,
        encode_prompt,
        directory=run.directory,
        run=folder,
        log=log,
        reporter=reporter,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    last = _finish(trainer, run, rows[-1])
    result = last | {"rows": len(problems), "left_out": 0}
    card = {"kind": "policy", "settings": {"base": run.engine.model} | settings, "result": result}
    _forget_reference(trainer)
    save(trainer, training, tokenizer, card, policy_model_card(card))
    if is_main():
        forget(folder, *PARTS)
        forget(folder)
    trainer.accelerator.wait_for_everyone()
    return last


def _finish(trainer: ProcessGrpoTrainer, run: Grpo, last: Row) -> Row:
    """Return the last row of the log; after a divergence, with the best checkpoint restored."""
    policy = {"policy": str(run.training.output), "policy_step": last["step"]}
    if not trainer.stopped:
        return last | policy
    best, point = trainer.best_checkpoint(), trainer.divergence.best
    assert best is not None and point is not None  # every best row is saved
    trainer._load_from_checkpoint(str(best))
    trainer._last_loaded_step = -1  # vLLM has other weights
    trainer.reporter.warn(f"stopped: {trainer.divergence}; the policy is that of step {point.step:,}")
    return last | policy | {"policy_step": point.step, "accuracy": trainer.accuracy(point.step)}


def _forget_reference(trainer: ProcessGrpoTrainer) -> None:
    """Remove the adapters that TRL keeps as the reference, so that they are not saved with the policy."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")
