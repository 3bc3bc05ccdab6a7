"""The folder of a run: what a training keeps until the folder of its model is complete.

Beside the output folder NAME there is `.NAME.run` with the run's settings, its examples, its last complete
checkpoint and TensorBoard's files if asked for. A checkpoint is written in draft/ and renamed when it is
complete.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from erprm_cli.errors import UserError
from erprm_cli.io.drafts import DRAFT, replace_json
from erprm_cli.io.files import LOCK, fits, open_locked, read_object
from erprm_cli.io.ownership import CARD, EVENTS, REMEDY
from erprm_cli.io.seal import damage, is_sealed
from erprm_cli.io.settings import as_written, difference, predates_contents, unchanged_since
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.distributed import is_main

RESULTS = ("rows", "step", "loss", "seconds", "tokens_per_s")  # numbers in the last log row
CHECKPOINTS, CHECKPOINT = "checkpoint-*", re.compile(r"checkpoint-\d+")
STATE = "trainer_state.json"  # in a checkpoint
PARTS = ("settings.json", "job.json", "data", "draft", EVENTS, CHECKPOINTS)  # of a run folder


def run_folder(output: Path) -> Path:
    """Return the run folder of the model `output`."""
    return output.with_name(f".{output.name}.run")


@contextmanager
def locked_run(output: Path) -> Iterator[None]:
    """Make and lock the run folder of `output`; UserError if another run has it. Remove it if it is empty."""
    run = run_folder(output)
    try:
        run.mkdir(parents=True, exist_ok=True)
        foreign = next(_foreign_files(run), None)
    except OSError as error:
        raise UserError(error.strerror, where=run) from None
    if foreign is not None:
        found = foreign.relative_to(run)
        raise UserError(f"{run} holds what erprm did not write there ({found})", remedy=REMEDY.format("-o"))
    with open_locked(str(run / LOCK), named=str(output)):
        try:
            yield
        finally:
            (run / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # not empty: there is something to continue from
                run.rmdir()


def _foreign_files(run: Path) -> Iterator[Path]:
    """Yield what is in a run folder and no training made: a run forgets what it made, and nothing else."""
    drafts = f".*{DRAFT}"
    for path in sorted(run.iterdir()):
        if path.name == "data":
            made = ("*.arrow", "stats.json", drafts)
            yield from (file for file in sorted(path.iterdir()) if not fits(file, made))
        elif not fits(path, (LOCK, *PARTS, drafts)):
            yield path
        elif CHECKPOINT.fullmatch(path.name) and not (is_sealed(path) or (path / STATE).exists()):
            yield path


def begin_run(run: Path, settings: Row, overwrite: bool) -> None:
    """Write `settings` into the run folder. Raises UserError if a run with others was stopped in it.

    With `overwrite`, the checkpoints of a stopped run are deleted instead.
    """
    path = run / "settings.json"
    if checkpoints(run):
        if overwrite:
            for checkpoint in checkpoints(run):
                shutil.rmtree(checkpoint)
        else:
            _check_stopped(path, settings)
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(error.strerror, where=run) from None
    replace_json(path, as_written(settings))


def _check_stopped(path: Path, settings: Row) -> None:
    """Raise UserError unless the settings of a stopped run, in the file `path`, are `settings`."""
    run, remedy = path.parent, "--overwrite starts again"
    try:
        made_with = read_object(path)
    except ValueError as error:
        raise UserError(
            f"{run} holds a stopped run, and its {path.name} cannot be used ({error})", remedy=remedy
        ) from None
    found = difference(made_with, settings)
    if found is not None:
        raise UserError(
            f"{run} holds a stopped run with {found.text}", remedy=f"{remedy}, the old settings continue it"
        )
    _check_unchanged(made_with, settings, path, f"{run} holds a stopped run", remedy)


def _check_unchanged(made_with: Row, settings: Row, written: Path, said: str, remedy: str) -> None:
    """Raise UserError if an earlier version wrote the settings, and a base or format has changed since."""
    if predates_contents(made_with, settings) and not unchanged_since(written.stat().st_mtime, settings):
        raise UserError(
            f"{said} of an earlier version of erprm, and its base or format may have changed since",
            remedy=remedy,
        )


def checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run, the last one last."""
    return sorted(
        (path for path in run.glob(CHECKPOINTS) if CHECKPOINT.fullmatch(path.name)),
        key=lambda path: int(path.name.rpartition("-")[2]),
    )


def last_checkpoint(run: Path, reporter: Reporter) -> str | None:
    """Return the checkpoint to continue from, or None. An incomplete one is reported and removed.

    Raises UserError if files of the complete one have been damaged since.
    """
    complete = checkpoints(run)
    for draft in (run / "draft").glob(CHECKPOINTS):
        number = draft.name.rpartition("-")[2]
        start = f"step {complete[-1].name.rpartition('-')[2]}" if complete else "the beginning"
        reporter.warn(f"the checkpoint of step {number} is incomplete and ignored; continuing from {start}")
    if is_main():
        shutil.rmtree(run / "draft", ignore_errors=True)
    if not complete:
        return None
    found = damage(complete[-1]) if is_sealed(complete[-1]) else None
    if found is not None:
        raise UserError(
            f"{complete[-1]} is damaged ({found})",
            remedy="delete that folder, and the same command starts again",
        )
    reporter.info(f"continuing from {complete[-1]}")
    return str(complete[-1])


def forget(run: Path, *parts: str) -> None:
    """Delete what a training made in its run folder, or `parts` of it, and the folder if it is empty then."""
    for part in parts or PARTS:
        for path in run.glob(part):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    with suppress(OSError):
        run.rmdir()


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
    not_ours = UserError(f"{output} is not empty and not a model made by erprm", remedy=REMEDY.format("-o"))
    try:
        card = read_object(output / CARD)
        made_with = {name: value for name, value in card["settings"].items() if name in settings}
    except (ValueError, KeyError, AttributeError):
        raise not_ours from None
    found = difference(made_with, settings)
    if found is not None:
        raise UserError(f"{output} was made with {found.text}", remedy=remedy)
    _check_unchanged(made_with, settings, output / CARD, f"{output} is a model", remedy)
    result = card.get("result")
    if not isinstance(result, dict) or not all(isinstance(result.get(name), int | float) for name in RESULTS):
        raise not_ours
    return result
