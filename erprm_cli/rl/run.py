"""Run GRPO: repeat nothing that is finished, continue what was stopped, start processes if asked to."""

from collections.abc import Callable, Iterator

from erprm_cli.io.files import read_object
from erprm_cli.io.ownership import CARD
from erprm_cli.io.reading import read_rows
from erprm_cli.io.settings import as_written
from erprm_cli.io.writing import open_atomic_output, write_rows
from erprm_cli.rl.grpo import Grpo
from erprm_cli.rl.log_rows import FIELDS
from erprm_cli.rows.row import Row
from erprm_cli.training.distributed import world_size
from erprm_cli.training.run_folder import run_folder

WORKER = "erprm_cli.rl.worker"


def run(grpo: Grpo, problems: list[Row], settings: Row, log: Callable[[Row], object]) -> None:
    """Train, and pass on every row of the log; the last one names the policy, whose card has `settings`.

    A complete run is not repeated, a stopped one is continued: its rows are passed on again.
    """
    if grpo.training.output.exists():  # it gets this name only when it is complete
        grpo.reporter.info(f"{grpo.training.output}: already trained; nothing to do")
        for row in _rows_of(grpo):
            log(row)
        return
    rows: list[Row] = []

    def keep(row: Row) -> None:
        rows.append(row)
        log(row)

    settings = as_written(settings)
    if (grpo.training.accelerate_config or grpo.training.num_processes) and world_size() == 1:
        _launch(grpo, problems, settings, keep)
    else:
        from erprm_cli.rl.fit import fit  # torch

        fit(grpo, problems, settings, keep)
    if world_size() == 1:
        with open_atomic_output(str(grpo.log_file), settings, overwrite=True) as out:
            for row in rows:
                out.write(row)


def _rows_of(grpo: Grpo) -> Iterator[Row]:
    """Yield the rows of a complete run; of one that was killed before it wrote them, the last."""
    if grpo.log_file.exists():
        yield from read_rows(str(grpo.log_file), dict)
    else:
        result = read_object(grpo.training.output / CARD)["result"]
        yield {name: result[name] for name in FIELDS}


def _launch(grpo: Grpo, problems: list[Row], settings: Row, log: Callable[[Row], object]) -> None:
    from erprm_cli.training.launch import launch_job  # torch

    folder = run_folder(grpo.training.output).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "problems.jsonl", folder / "eval.jsonl"
    for file, rows in zip(files, (problems, grpo.eval_problems), strict=True):
        write_rows(file, rows, overwrite=True)
    job = grpo.job(*files) | {"settings": settings}
    launch_job(job, WORKER, grpo.training, log, grpo.reporter, made="policy")
