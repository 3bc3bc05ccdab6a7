"""Run GRPO: repeat nothing that is finished, continue what was stopped, start processes if asked to."""

from collections.abc import Callable

from erprm_cli.io.reading import read_rows
from erprm_cli.io.settings import as_written
from erprm_cli.io.writing import write_rows
from erprm_cli.rl.grpo import Grpo
from erprm_cli.rows.row import Row
from erprm_cli.training.distributed import world_size
from erprm_cli.training.run_folder import run_folder

WORKER = "erprm_cli.rl.worker"


def run(grpo: Grpo, problems: list[Row], settings: Row, log: Callable[[Row], object]) -> None:
    """Train, and pass on every row of the log; the last one names the policy, whose card has `settings`.

    A complete run is not repeated, a stopped one is continued: its rows are passed on again.
    """
    training, output = grpo.training, grpo.training.output
    if output.exists():  # it gets this name only when it is complete
        grpo.reporter.info(f"{output}: already trained; nothing to do")
        for row in read_rows(str(grpo.log_file), dict):
            log(row)
    elif (training.accelerate_config or training.num_processes) and world_size() == 1:
        from erprm_cli.training.launch import launch_job  # torch

        folder = run_folder(output).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        files = folder / "problems.jsonl", folder / "eval.jsonl"
        for file, rows in zip(files, (problems, grpo.eval_problems), strict=True):
            write_rows(file, rows, overwrite=True)
        job = grpo.job(*files) | {"settings": as_written(settings)}
        launch_job(job, WORKER, training, log, grpo.reporter, made="policy")
    else:
        from erprm_cli.rl.fit import fit

        fit(grpo, problems, as_written(settings), log)
