"""Writing the folder of a trained model, all or nothing."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from erprm_cli import __version__
from erprm_cli.errors import UserError
from erprm_cli.io.files import new_folder, write_json, write_text
from erprm_cli.rows.row import Row

CARD = "erprm.json"  # in the folder of a trained model: its kind, settings and result


def write_folder(path: Path, model: Any, tokenizer: Any, card: Row, readme: str, state: Any = None) -> None:
    """Write a model (safetensors), its tokenizer, erprm.json and README.md.

    `state` replaces the model's own weights, if given. Raises UserError if the folder cannot be written.
    """
    with new_folder(path) as draft:
        try:
            model.save_pretrained(draft, state_dict=state)
        except SafetensorError as error:  # a full disk
            raise UserError(f"{path}: {error}") from None
        tokenizer.save_pretrained(draft)
        card = {"erprm": __version__, **card}
        write_json(draft / CARD, card)
        write_text(draft / "README.md", readme)
        for file in draft.iterdir():
            file.chmod(0o644)  # safetensors makes them readable by the owner only
