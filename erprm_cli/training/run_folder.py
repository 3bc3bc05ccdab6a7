"""What a training keeps on the disk: the folder of its model, and until that is made the folder of its run.

While a run is under way, `.NAME.run` stands beside the output folder NAME: its settings, its examples, its
last complete checkpoint and TensorBoard's files if asked for. A checkpoint is written under another name and
renamed when it is whole.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson

from erprm_cli.errors import UserError
from erprm_cli.io.files import LOCK, open_locked
from erprm_cli.models.folder import CARD
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.distributed import is_main


def run_folder(output: Path) -> Path:
    """Return where a run keeps what it needs until `output` is made."""
    return output.with_name(f".{output.name}.run")


@contextmanager
def locked_run(output: Path) -> Iterator[None]:
    """Make the run folder of `output` and keep other runs away from it; UserError if one is at work."""
    run = run_folder(output)
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{run}: {error.strerror}") from None
    with open_locked(str(run / LOCK), named=str(output)):
        try:
            yield
        finally:
            (run / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # there is something to continue from
                run.rmdir()


def begin_run(run: Path, settings: Row, overwrite: bool) -> None:
    """Make the run folder, or make sure that the stopped run in it had the same settings; else UserError."""
    path = run / "settings.json"
    asked = orjson.loads(orjson.dumps(settings))
    if path.exists() and checkpoints(run):
        made_with = orjson.loads(path.read_bytes())
        if made_with != asked and not overwrite:
            name = next(name for name in {**asked, **made_with} if made_with.get(name) != asked.get(name))
            raise UserError(
                f"{run} holds a stopped run with {name} {made_with.get(name)}, not {asked.get(name)}; "
                "--overwrite starts afresh, the old settings continue it"
            )
        if made_with != asked or overwrite:
            for checkpoint in checkpoints(run):
                shutil.rmtree(checkpoint)
    try:
        run.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(asked))
    except OSError as error:
        raise UserError(f"{run}: {error.strerror}") from None


def checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run, the last one last."""
    return sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def last_checkpoint(run: Path, reporter: Reporter) -> str | None:
    """Return the checkpoint to continue from, None to begin; a half-written one is told of and removed."""
    complete = checkpoints(run)
    for draft in (run / "draft").glob("checkpoint-*"):
        number = draft.name.rpartition("-")[2]
        goes_on = f"step {complete[-1].name.rpartition('-')[2]}" if complete else "the beginning"
        reporter.warn(
            f"the checkpoint of step {number} is half written and left out; continuing from {goes_on}"
        )
    if is_main():
        shutil.rmtree(run / "draft", ignore_errors=True)
    if not complete:
        return None
    reporter.info(f"continuing from {complete[-1]}")
    return str(complete[-1])


def forget(folder: Path) -> None:
    """Remove a folder of a run, and the run's own if nothing else is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        if folder.name == "data":
            folder.parent.rmdir()


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finished(path: Path, settings: Row, overwrite: bool) -> Row | None:
    """Return the log row of an earlier run with equal `settings` whose model is in the folder `path`.

    None if the folder is free, or to be overwritten; UserError if something else is in it.
    """
    if overwrite or not path.exists():
        return None
    remedy = "--overwrite replaces it, another -o keeps both"
    if not path.is_dir():
        raise UserError(f"{path} is a file, and a model is a folder; give -o another name")
    if not any(path.iterdir()):
        return None
    try:
        card = orjson.loads((path / CARD).read_bytes())
        made_with, result = card["settings"], card["result"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not empty and not a model made by erprm; {remedy}") from None
    for name, asked in settings.items():
        if made_with.get(name) != asked:
            raise UserError(f"{path} was made with {name} {made_with.get(name)}, not {asked}; {remedy}")
    return dict(result)


EVENTS = "runs"  # TensorBoard's files, as Trainer calls them: in the run folder, at last in the model's
