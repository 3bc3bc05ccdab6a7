"""Starting the processes of a training. `launch` saves the examples, writes the task as a job, and runs

    accelerate launch --config_file FILE --num_processes N -m erprm_cli.training.worker JOB

The first process prints log rows, which are passed on, or an error of the user. The stdin of all of them is a
pipe from this process, and they end when it closes: even if this process is killed, none of them goes on
writing while another run continues the training.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import torch

from erprm_cli.errors import EngineError, UserError
from erprm_cli.io.drafts import replace_json
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import TrainingConfig
from erprm_cli.training.distributed import accelerate_config
from erprm_cli.training.run_folder import run_folder
from erprm_cli.training.task import Log, TrainingTask

WORKER = "erprm_cli.training.worker"
BY_DEVICE = {"cuda": "multi-gpu", "cpu": "multi-cpu"}  # if only --num-processes is given


def launch(task: TrainingTask, log: Log, reporter: Reporter) -> Row:
    """Train in processes of their own, as task.config says; return the last log row."""
    config = task.config
    job = task.job(replace(config, accelerate_config=None, num_processes=None))
    return launch_job(job | {"examples": str(task.store.save().absolute())}, WORKER, config, log, reporter)


def launch_job(
    job: Row, worker: str, config: TrainingConfig, log: Log, reporter: Reporter, made: str = "model"
) -> Row:
    """Run the module `worker` with a job in processes of their own; return the last log row.

    `config` says how many. Raises UserError if the first process does, EngineError if the processes end in
    another way: before a row with the field `made`.
    """
    command = _command(job, worker, config, reporter)
    reporter.info(f"running {' '.join(command[2:])}")
    reporter.stop()  # the first process shows its own progress
    last: Row | None = None
    failed: UserError | None = None
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(b'{"error":'):
                    error = orjson.loads(line)
                    failed = UserError(error["error"])
                    failed.exit_status = error["exit_status"]
                elif line.startswith(b"{"):
                    last = orjson.loads(line)
                    log(last)
                else:
                    sys.stderr.write(line.decode("utf-8", "replace"))
        except BaseException:
            process.terminate()  # accelerate ends its processes
            raise
    if failed is not None:
        raise failed
    if process.returncode or last is None or last.get(made) is None:
        raise EngineError(
            f"the training processes ended with status {process.returncode}, see above; the same command "
            "continues from the last checkpoint"
        )
    return last


def _command(job: Row, worker: str, config: TrainingConfig, reporter: Reporter) -> list[str]:
    """Write the job; return the command that starts the processes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    number = config.num_processes or max(1, torch.cuda.device_count())
    path = job_file(config.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_json(path, job | {"quiet": reporter.quiet})
    accelerate = accelerate_config(config.accelerate_config or BY_DEVICE[device])
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(accelerate)]
    return [*command, "--num_processes", str(number), "-m", worker, str(path)]


def job_file(output: Path) -> Path:
    """Return the file of the job for the model `output`, in its run folder."""
    return run_folder(output).absolute() / "job.json"
