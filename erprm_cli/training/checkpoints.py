"""Checkpoints of transformers' Trainer, all or nothing: written in draft/, sealed, then renamed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

from erprm_cli.errors import UserError
from erprm_cli.io.files import sync
from erprm_cli.io.seal import seal
from erprm_cli.training.run_folder import checkpoints


class SealedCheckpoints:
    """Part of a Trainer whose output_dir is the folder draft/ in `run_folder`."""

    run_folder: Path

    def kept_checkpoints(self) -> list[Path]:
        """Return the checkpoints that a new one does not replace."""
        return []

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with _loadable(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _loadable(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        """Write a checkpoint in draft/; rename it when all processes have written their part."""
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        except (OSError, RuntimeError, SafetensorError) as error:  # the last two on a full disk
            raise UserError(f"cannot write a checkpoint: {error}", where=self.run_folder) from error
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            draft = self.run_folder / "draft" / f"checkpoint-{self.state.global_step}"
            seal(draft)
            for path in draft.rglob("*"):
                if path.is_file():
                    sync(path)
            older = checkpoints(self.run_folder)
            draft.rename(self.run_folder / draft.name)
            sync(self.run_folder)
            for path in older:
                if path not in self.kept_checkpoints():
                    shutil.rmtree(path, ignore_errors=True)
        self.accelerator.wait_for_everyone()


@contextmanager
def _loadable(checkpoint: str | None) -> Iterator[None]:
    """Turn what torch and safetensors raise for damaged weights into a UserError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError, SafetensorError) as error:
        reason = str(error).partition("\n")[0] or "a file is empty"
        raise UserError(
            f"{checkpoint} cannot be loaded ({reason})",
            remedy="delete that folder, and the same command starts again",
        ) from error
