"""FILE.meta.json beside an output FILE: the settings that made it, and its runs, without secrets.

{"settings": {...}, "runs": [{"command": ..., "started": ..., "erprm": ..., "engine": ..., "commit": ...}]}
"""

import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import orjson

from erprm_cli import __version__
from erprm_cli.errors import UserError
from erprm_cli.io.files import read_json, replacing, write_json
from erprm_cli.rows.row import Row

SECRET = re.compile(r"(?:token|secret|password|key)$", re.IGNORECASE)
START_AGAIN = "--overwrite starts again, another -o keeps both"


def meta_path(path: Path) -> Path:
    """Return the path of the sidecar of `path`."""
    return path.with_name(path.name + ".meta.json")


def command_line() -> str:
    """Return the command to type again: without --overwrite, and with ... in place of secrets."""
    words, hidden = [], False
    for word in sys.argv[1:]:
        name = word.partition("=")[0]
        secret = name.startswith("-") and is_secret(name)
        if word != "--overwrite":
            words.append("..." if hidden else f"{name}=..." if secret and "=" in word else word)
        hidden = secret and "=" not in word
    return shlex.join(["erprm", *words])


def is_secret(name: str) -> bool:
    """Return whether a flag or setting of this name holds a secret, which must not be written to a file.

    >>> [is_secret(name) for name in ("--api-key", "hf_token", "--max-tokens", "tokenizer")]
    [True, True, False, False]
    """
    return bool(SECRET.search(name))


def this_run() -> Row:
    """Return the entry of this run in `runs`."""
    return {
        "command": command_line(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "erprm": __version__,
    }


def write_meta(path: Path, settings: Row) -> None:
    """Write a new sidecar of `path`, with this run in it."""
    replace_meta(path, {"settings": settings, "runs": [this_run()]})


def read_meta(path: Path) -> Row:
    """Return the content of the sidecar of `path`."""
    meta: Row = read_json(meta_path(path))
    return meta


def replace_meta(path: Path, meta: Row) -> None:
    """Replace the sidecar of `path`; UserError if that fails."""
    try:
        with replacing(meta_path(path)) as draft:
            write_json(draft, meta)
    except OSError as error:
        raise UserError(f"{meta_path(path)}: {error.strerror}") from None


def check_meta(path: Path, settings: Row, named: Path | None = None) -> None:
    """Raise UserError unless the sidecar of `path` has the same settings. Errors call the file `named`."""
    named = named or path
    meta = meta_path(path)
    try:
        made_with = read_json(meta)["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        made_with = None
    if not isinstance(made_with, dict):
        raise UserError(
            f"{named} is not empty, and no readable {meta.name} says how it was made; {START_AGAIN}"
        )
    found = differing_setting(made_with, settings)
    if found is None:
        return
    name, before, now = found
    remedy = START_AGAIN
    if name == "shard":
        remedy = "each shard needs its own file; put $SLURM_ARRAY_TASK_ID into the name"
    raise UserError(f"{named} was made with {name} {before}, not {now}; {remedy}")


def differing_setting(made_with: Row, settings: Row) -> tuple[str, object, object] | None:
    """Return (name, value in `made_with`, value in `settings`) of the first difference by name, or None.

    `made_with` was read from a file; `settings` are compared as they would be after such a round trip. A
    missing setting equals one that is null.

    >>> differing_setting({"seed": 0, "stop": [1, 2]}, {"seed": 1, "stop": (1, 2), "shard": None})
    ('seed', 0, 1)
    """
    asked = orjson.loads(orjson.dumps(settings))
    for name in sorted(made_with.keys() | asked.keys()):
        before, now = made_with.get(name), asked.get(name)
        if before != now:
            return name, before, now
    return None
