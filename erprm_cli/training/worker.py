"""One process of a launched training; `accelerate launch` starts it as a module with a job file."""

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from erprm_cli.errors import UserError
from erprm_cli.io.writing import open_output
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.distributed import is_main

if TYPE_CHECKING:
    from erprm_cli.training.task import TrainingTask


def _end_with_stdin() -> None:
    """End this process when its stdin does."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Do the share of one process of a launched training."""
    _end_with_stdin()
    spec: Row = orjson.loads(Path(sys.argv[1]).read_bytes())
    from erprm_cli.training.policy_task import PolicyTask
    from erprm_cli.training.prm_task import PrmTask
    from erprm_cli.training.train import train

    kinds: dict[str, Any] = {"train": PrmTask, "rlhf": PolicyTask}
    with open_output("-", {}) as out, Reporter(spec["command"], spec["quiet"]) as reporter:
        try:
            data: TrainingTask = kinds[spec["command"]].of_job(spec)
            data.load(Path(spec["data"]))
            train(data, out.write, reporter)
        except UserError as error:
            if is_main():
                out.write({"error": str(error), "exit_status": error.exit_status})
            sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
