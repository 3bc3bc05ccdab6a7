"""Several processes: who we are among them, and how a training starts itself through accelerate.

`launch` stores the examples, writes the settings as a job, and runs

    accelerate launch --config_file FILE --num_processes N -m erprm_cli.training.worker JOB

whose first process prints the log rows, which are handed on, or an error that the user can mend. Their stdin
is a pipe that ends with us: so they end too, even if we are killed, and never write beside a run that
continues this one.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from erprm_cli.errors import EngineError, UserError
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.distributed import accelerate_config

if TYPE_CHECKING:
    from erprm_cli.training.task import Log, TrainingTask

BY_DEVICE = {"cuda": "multi-gpu", "cpu": "multi-cpu"}  # if only --num-processes is given


def launch(data: "TrainingTask", log: "Log", reporter: Reporter) -> Row:
    """Train on `data` in processes of their own, as data.config asks; return the last log row."""
    import torch

    config = data.config
    on = "cuda" if torch.cuda.is_available() else "cpu"
    number = config.num_processes or max(1, torch.cuda.device_count())
    alone = replace(config, accelerate_config=None, num_processes=None)
    spec = {"data": str(data.store().absolute()), "quiet": reporter.quiet} | data.job(alone)
    job = job_file(config.output)
    job.parent.mkdir(parents=True, exist_ok=True)
    job.write_bytes(orjson.dumps(spec))
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(accelerate_config(config.accelerate_config or BY_DEVICE[on]))]
    command += ["--num_processes", str(number), "-m", "erprm_cli.training.worker", str(job)]
    reporter.info(f"{number} processes: {' '.join(command[2:])}")
    last: Row | None = None
    failed: UserError | None = None
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(b'{"error":'):
                    told = orjson.loads(line)
                    failed = UserError(told["error"])
                    failed.exit_status = told["exit_status"]
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
    if process.returncode or last is None or "model" not in last:
        raise EngineError(
            f"the processes of the training ended with status {process.returncode}, see above; the same "
            "command continues from the last checkpoint"
        )
    return last


def job_file(output: Path) -> Path:
    """Return where the job of the model `output` stands: in its run folder."""
    from erprm_cli.training.run_folder import run_folder

    return run_folder(output).absolute() / "job.json"
