"""Write the folder of a trained model, all or nothing."""

from pathlib import Path
from typing import Any

from erprm_cli import __version__
from erprm_cli.errors import UserError
from erprm_cli.io.files import new_folder, write_json, write_text
from erprm_cli.rows.row import Row

CARD = "erprm.json"  # settings and results of the training, in the folder of the model


def write_folder(path: Path, model: Any, tokenizer: Any, card: Row, readme: str, state: Any = None) -> None:
    """Write a model (safetensors), its tokenizer, erprm.json and a model card, all or nothing."""
    from safetensors import SafetensorError  # here, because commands without a model read CARD

    with new_folder(path) as draft:
        try:
            model.save_pretrained(draft, state_dict=state)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise UserError(f"{path}: {error}") from None
        tokenizer.save_pretrained(draft)
        write_json(draft / CARD, {"erprm": __version__, **card})
        write_text(draft / "README.md", readme)
        for file in draft.iterdir():
            file.chmod(0o644)  # safetensors creates files that only their owner can read
