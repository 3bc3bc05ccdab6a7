"""Write the folder of a trained model, all or nothing."""

import stat
from pathlib import Path
from typing import Any

from erprm_cli import __version__
from erprm_cli.errors import UserError
from erprm_cli.io.drafts import new_folder
from erprm_cli.io.files import write_json, write_text
from erprm_cli.io.ownership import CARD as CARD
from erprm_cli.io.ownership import NamedFile, check_owner
from erprm_cli.roles import Role
from erprm_cli.rows.row import Row


def write_folder(path: Path, model: Any, tokenizer: Any, card: Row, readme: str, state: Any = None) -> None:
    """Write a model (safetensors), its tokenizer, erprm.json and a model card, all or nothing.

    erprm.json is `card` and the list of the files. Raises UserError if the folder has files that are not of a
    model which erprm wrote.
    """
    from safetensors import SafetensorError  # here, because commands without a model read CARD

    def check() -> None:
        check_owner(NamedFile("-o", Role.MODEL, str(path)), overwrite=True)

    with new_folder(path, check) as draft:
        try:
            model.save_pretrained(draft, state_dict=state)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise UserError(error, where=path) from None
        tokenizer.save_pretrained(draft)
        write_text(draft / "README.md", readme)
        mode = stat.S_IMODE((draft / "README.md").stat().st_mode)  # as the umask says
        files = sorted({CARD, *(file.name for file in draft.iterdir())})
        write_json(draft / CARD, {"erprm": __version__, **card, "files": files})
        for file in draft.iterdir():
            if file.is_file():
                file.chmod(mode)  # safetensors creates files that only their owner can read
