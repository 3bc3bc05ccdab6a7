"""One process of a launched training. `accelerate launch` runs this module with a job file; see launch.py."""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from erprm_cli.errors import UserError
from erprm_cli.io.files import read_json
from erprm_cli.io.writing import open_output
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.terminal.stderr import clean_stderr
from erprm_cli.training.distributed import is_main

Log = Callable[[Row], object]


def main() -> int:
    """Do the share of one process of a training; return its exit status."""
    return work(_train)


def work(do: Callable[[Row, Log, Reporter], object]) -> int:
    """Call `do` with the job of the command line; return the exit status. An error of the user is a row."""
    _end_with_stdin()
    clean_stderr()
    job: Row = read_json(sys.argv[1])
    with open_output("-", {}) as out, Reporter(job["command"], job["quiet"]) as reporter:
        try:
            do(job, out.write, reporter)
        except UserError as error:
            if is_main():
                out.write({"error": str(error), "exit_status": error.exit_status})
            return error.exit_status
    return 0


def _train(job: Row, log: Log, reporter: Reporter) -> None:
    from erprm_cli.training.policy_task import PolicyTask
    from erprm_cli.training.prm_task import PrmTask
    from erprm_cli.training.task import TrainingTask
    from erprm_cli.training.train import train

    tasks: dict[str, type[TrainingTask]] = {"train": PrmTask, "rlhf": PolicyTask}
    task = tasks[job["command"]].from_job(job)
    task.store.load(Path(job["examples"]))
    train(task, log, reporter)


def _end_with_stdin() -> None:
    """End this process when its stdin closes."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end(status: int) -> NoReturn:
    """End this process without freeing what it holds.

    On a busy machine about one process in twenty aborts when torch frees the threads of a gloo process group,
    as Python's own end does.
    """
    atexit._run_exitfuncs()  # wandb closes its run there
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    end(main())
