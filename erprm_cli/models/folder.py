"""Write the folder of a trained model, all or nothing."""

from pathlib import Path
from typing import Any

import orjson
from safetensors import SafetensorError

from erprm_cli import __version__
from erprm_cli.errors import UserError
from erprm_cli.io.files import new_folder
from erprm_cli.rows.row import Row

CARD = "erprm.json"  # settings and results of the training, in the folder of the model


def write_folder(path: Path, model: Any, tokenizer: Any, card: Row, readme: str, state: Any = None) -> None:
    """Write a model (safetensors), its tokenizer, erprm.json and a model card, all or nothing."""
    with new_folder(path) as draft:
        try:
            model.save_pretrained(draft, state_dict=state)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise UserError(f"{path}: {error}") from None
        tokenizer.save_pretrained(draft)
        card = {"erprm": __version__, **card}
        (draft / CARD).write_bytes(orjson.dumps(card, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        (draft / "README.md").write_text(readme, encoding="utf-8")
        for file in draft.iterdir():
            file.chmod(0o644)  # safetensors creates files that only their owner can read
