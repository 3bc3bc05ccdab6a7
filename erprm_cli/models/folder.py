"""Writing a trained model's folder, all or nothing."""

from pathlib import Path
from typing import Any

import orjson
from safetensors import SafetensorError

from erprm_cli import __version__
from erprm_cli.errors import UserError
from erprm_cli.io.files import new_folder
from erprm_cli.rows.row import Row

CARD = "erprm.json"  # what the folder of a trained model says of itself


def write_folder(path: Path, model: Any, tokenizer: Any, card: Row, readme: str, state: Any = None) -> None:
    """Write a model (safetensors), its tokenizer, erprm.json and a model card, all or nothing."""
    with new_folder(path) as draft:
        try:
            model.save_pretrained(draft, state_dict=state)
        except SafetensorError as error:  # a full disk, as safetensors tells it
            raise UserError(f"{path}: {error}") from None
        tokenizer.save_pretrained(draft)
        card = {"erprm": __version__, **card}
        (draft / CARD).write_bytes(orjson.dumps(card, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        (draft / "README.md").write_text(readme, encoding="utf-8")
        for file in draft.iterdir():
            file.chmod(0o644)  # safetensors makes files that only their owner may read
