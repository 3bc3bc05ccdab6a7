"""Train a task: repeat nothing that is finished, continue what was stopped, start processes if asked to."""

from collections.abc import Iterable

from erprm_cli.io.settings import as_written
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PolicyTrainingConfig, PrmTrainingConfig
from erprm_cli.training.distributed import Silence, ends_with_others, is_main, world_size
from erprm_cli.training.fit import fit
from erprm_cli.training.launch import launch
from erprm_cli.training.policy_task import PolicyTask
from erprm_cli.training.prm_task import PrmTask
from erprm_cli.training.run_folder import begin_run, checkpoints, finished, forget, run_folder
from erprm_cli.training.task import Log, TrainingTask


def train(task: TrainingTask, log: Log, reporter: Reporter) -> Row:
    """Train on the examples of `task`, write config.output, return the last log row.

    A finished run with the same rows and settings is not repeated; a stopped one is continued. Raises
    UserError if there is nothing to train on, or if `output` or its run folder has other settings;
    EngineError if another process of the training was lost.
    """
    config = task.config
    reporter = reporter if is_main() else Silence()
    log = log if is_main() else _ignore
    task.check_examples(reporter)
    settings = task.settings | {"data": task.stats["hash"]}
    last = finished(config.output, settings, config.overwrite)
    if last is not None:
        reporter.info(f"{config.output}: already trained on these rows with these settings; nothing to do")
        log(last)
        return last
    run = run_folder(config.output)
    if is_main():
        begin_run(run, settings, config.overwrite)
    if (config.accelerate_config or config.num_processes) and world_size() == 1:
        return launch(task, log, reporter)
    try:
        with ends_with_others():
            last = fit(task, as_written(settings), run, log, reporter)
    except BaseException:
        if is_main() and not checkpoints(run):
            forget(run)  # there is nothing to continue from
        raise
    log(last)
    return last


def _ignore(_: Row) -> None: ...


def train_prm(
    rows: Iterable[Row], config: PrmTrainingConfig, log: Log, reporter: Reporter | None = None
) -> Row:
    """Train a PRM on labelled solutions and write it to config.output; return the last log row."""
    task = PrmTask(config)
    for row in rows:
        task.add(row)
    task.read_eval()
    return train(task, log, reporter or Reporter("train"))


def train_policy(
    rows: Iterable[Row],
    template: PolicyTemplate,
    config: PolicyTrainingConfig,
    log: Log = _ignore,
    reporter: Reporter | None = None,
) -> Row:
    """Fine-tune on rows with `problem` and `solution`, write config.output, return the last log row."""
    task = PolicyTask(template, config)
    for row in rows:
        task.add(row)
    return train(task, log, reporter or Reporter("rlhf"))
