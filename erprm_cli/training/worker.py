"""One process of a launched training. `accelerate launch` runs this module with a job file; see launch.py."""

import atexit
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

from erprm_cli.errors import UserError
from erprm_cli.io.files import read_json
from erprm_cli.io.writing import open_output
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.terminal.stderr import clean_stderr
from erprm_cli.training.distributed import is_main


def main() -> int:
    """Do the share of one process; return its exit status."""
    _end_with_stdin()
    clean_stderr()
    job: Row = read_json(sys.argv[1])
    from erprm_cli.training.policy_task import PolicyTask
    from erprm_cli.training.prm_task import PrmTask
    from erprm_cli.training.task import TrainingTask
    from erprm_cli.training.train import train

    tasks: dict[str, type[TrainingTask]] = {"train": PrmTask, "rlhf": PolicyTask}
    with open_output("-", {}) as out, Reporter(job["command"], job["quiet"]) as reporter:
        try:
            task = tasks[job["command"]].from_job(job)
            task.store.load(Path(job["examples"]))
            train(task, out.write, reporter)
        except UserError as error:
            if is_main():
                out.write({"error": str(error), "exit_status": error.exit_status})
            return error.exit_status
    return 0


def _end_with_stdin() -> None:
    """End this process when its stdin closes."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end(status: int) -> NoReturn:
    """End this process without freeing what it holds.

    On a busy machine about one process in twenty aborts when torch frees the threads of a gloo process group,
    as Python's own end does.
    """
    atexit._run_exitfuncs()  # wandb closes its run there
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _end(main())
