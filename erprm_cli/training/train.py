"""Train a task: repeat nothing that is finished, continue what was stopped, launch processes if asked."""

from collections.abc import Iterable

from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PolicyTrainingConfig, PrmTrainingConfig
from erprm_cli.training.distributed import Silence, is_main, world_size
from erprm_cli.training.fit import fit
from erprm_cli.training.policy_task import PolicyTask
from erprm_cli.training.prm_task import PrmTask
from erprm_cli.training.run_folder import begin_run, checkpoints, finished, forget, run_folder
from erprm_cli.training.task import Log, TrainingTask


def train(data: TrainingTask, log: Log, reporter: Reporter) -> Row:
    """Train on what was added to `data`, write config.output, return the last log row.

    A finished run with the same rows and settings is not repeated, a stopped one is continued.
    """
    config = data.config
    reporter = reporter if is_main() else Silence()
    log = log if is_main() else _say_nothing
    data.check(reporter)
    settings = data.settings | {"data": data.facts["hash"]}
    last = finished(config.output, settings, config.overwrite)
    if last is not None:
        reporter.info(f"{config.output} is there already, made of the same rows with the same settings")
        log(last)
        return last
    run = run_folder(config.output)
    if is_main():
        begin_run(run, settings, config.overwrite)
    if (config.accelerate_config or config.num_processes) and world_size() == 1:
        from erprm_cli.training.launch import launch

        return launch(data, log, reporter)
    try:
        last = fit(data, settings, run, log, reporter)
    except BaseException:
        if is_main() and not checkpoints(run):
            forget(run)  # there is nothing to continue from
        raise
    log(last)
    return last


def _say_nothing(_: Row) -> None: ...


def train_prm(
    rows: Iterable[Row], config: PrmTrainingConfig, log: Log, reporter: Reporter | None = None
) -> Row:
    """Train a PRM on labelled solutions and write it to config.output; return the last log row."""
    data = PrmTask(config)
    for row in rows:
        data.add(row)
    data.read_eval()
    return train(data, log, reporter or Reporter("train"))


def train_policy(
    rows: Iterable[Row],
    template: PolicyTemplate,
    config: PolicyTrainingConfig,
    log: Log = lambda row: None,
    reporter: Reporter | None = None,
) -> Row:
    """Fine-tune on rows with `problem` and `solution`, write config.output, return the last log row."""
    data = PolicyTask(template, config)
    for row in rows:
        data.add(row)
    return train(data, log, reporter or Reporter("rlhf"))
