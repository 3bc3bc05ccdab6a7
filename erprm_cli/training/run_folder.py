"""The folder of a run: what a training keeps until the folder of its model is complete.

Beside the output folder NAME there is `.NAME.run` with the run's settings, its examples, its last complete
checkpoint and TensorBoard's files if asked for. A checkpoint is written in draft/ and renamed when it is
complete.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from erprm_cli.errors import UserError
from erprm_cli.io.files import LOCK, open_locked, read_json, write_json
from erprm_cli.io.provenance import differing_setting
from erprm_cli.models.folder import CARD
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.distributed import is_main

EVENTS = "runs"  # TensorBoard's files, as Trainer names them: first in the run folder, then in the model's


def run_folder(output: Path) -> Path:
    """Return the run folder of the model `output`."""
    return output.with_name(f".{output.name}.run")


@contextmanager
def locked_run(output: Path) -> Iterator[None]:
    """Make and lock the run folder of `output`; UserError if another run has it. Remove it if it is empty."""
    run = run_folder(output)
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(error.strerror, where=run) from None
    with open_locked(str(run / LOCK), named=str(output)):
        try:
            yield
        finally:
            (run / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # not empty: there is something to continue from
                run.rmdir()


def begin_run(run: Path, settings: Row, overwrite: bool) -> None:
    """Write `settings` into the run folder. Raises UserError if a run with others was stopped in it.

    With `overwrite`, the checkpoints of a stopped run are deleted instead.
    """
    path = run / "settings.json"
    if path.exists() and checkpoints(run):
        found = differing_setting(read_json(path), settings)
        if found is not None and not overwrite:
            name, before, now = found
            raise UserError(
                f"{run} holds a stopped run with {name} {before}, not {now}; --overwrite starts again, the "
                "old settings continue it"
            )
        if overwrite:
            for checkpoint in checkpoints(run):
                shutil.rmtree(checkpoint)
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
    except OSError as error:
        raise UserError(error.strerror, where=run) from None


def checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run, the last one last."""
    return sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def last_checkpoint(run: Path, reporter: Reporter) -> str | None:
    """Return the checkpoint to continue from, or None. An incomplete one is reported and removed."""
    complete = checkpoints(run)
    for draft in (run / "draft").glob("checkpoint-*"):
        number = draft.name.rpartition("-")[2]
        start = f"step {complete[-1].name.rpartition('-')[2]}" if complete else "the beginning"
        reporter.warn(f"the checkpoint of step {number} is incomplete and ignored; continuing from {start}")
    if is_main():
        shutil.rmtree(run / "draft", ignore_errors=True)
    if not complete:
        return None
    reporter.info(f"continuing from {complete[-1]}")
    return str(complete[-1])


def forget(folder: Path) -> None:
    """Delete a run folder, or the examples in it and then the run folder if nothing else is there."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        if folder.name == "data":
            folder.parent.rmdir()


def finished(output: Path, settings: Row, overwrite: bool) -> Row | None:
    """Return the log row of an earlier run with `settings` whose model is in the folder `output`.

    None if the folder is free or to be overwritten. Raises UserError if something else is in it, such as a
    model with other settings; settings of the model that are not in `settings` are not compared.
    """
    if overwrite or not output.exists():
        return None
    remedy = "--overwrite replaces it, another -o keeps both"
    if not output.is_dir():
        raise UserError(f"{output} is a file, but a model is a folder; give -o another name")
    if not any(output.iterdir()):
        return None
    try:
        card = read_json(output / CARD)
        made_with = {name: card["settings"].get(name) for name in settings}
        result = dict(card["result"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{output} is not empty and not a model made by erprm; {remedy}") from None
    found = differing_setting(made_with, settings)
    if found is not None:
        name, before, now = found
        raise UserError(f"{output} was made with {name} {before}, not {now}; {remedy}")
    return result
