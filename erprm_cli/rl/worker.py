"""One process of a launched GRPO run. `accelerate launch` runs this module with a job file."""

from collections.abc import Callable

from erprm_cli.io.reading import read_rows
from erprm_cli.rl.grpo import Grpo
from erprm_cli.rl.run import run
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.worker import end, work


def _train(job: Row, log: Callable[[Row], object], reporter: Reporter) -> None:
    problems = list(read_rows(job["problems"], dict))
    run(Grpo.from_job(job, reporter), problems, job["settings"], log)


if __name__ == "__main__":
    end(work(_train))
