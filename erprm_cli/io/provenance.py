"""FILE.meta.json beside an output FILE: the settings that made it, and the runs that did, without secrets.

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
AFRESH = "--overwrite starts afresh, another -o keeps both"


def meta_path(path: Path) -> Path:
    """Return where the sidecar of `path` lies."""
    return path.with_name(path.name + ".meta.json")


def command_line() -> str:
    """Return the command as one may type it again, without what would start afresh and without secrets."""
    words, hidden = [], False
    for word in sys.argv[1:]:
        name = word.partition("=")[0]
        secret = name.startswith("-") and is_secret(name)
        if word != "--overwrite":
            words.append("..." if hidden else f"{name}=..." if secret and "=" in word else word)
        hidden = secret and "=" not in word
    return shlex.join(["erprm", *words])


def is_secret(name: str) -> bool:
    """Whether a flag or setting of this name holds what no file may show.

    >>> [is_secret(name) for name in ("--api-key", "hf_token", "--max-tokens", "tokenizer")]
    [True, True, False, False]
    """
    return bool(SECRET.search(name))


def this_run() -> Row:
    """Return what tells this run from others of the same output."""
    return {
        "command": command_line(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "erprm": __version__,
    }


def write_meta(path: Path, settings: Row) -> None:
    """Begin the sidecar of `path`, with this run in it."""
    replace_meta(path, {"settings": settings, "runs": [this_run()]})


def read_meta(path: Path) -> Row:
    """Return what the sidecar of `path` holds."""
    meta: Row = read_json(meta_path(path))
    return meta


def replace_meta(path: Path, meta: Row) -> None:
    """Write the sidecar of `path`; UserError if that fails."""
    try:
        with replacing(meta_path(path)) as draft:
            write_json(draft, meta)
    except OSError as error:
        raise UserError(f"{meta_path(path)}: {error.strerror}") from None


def check_meta(path: Path, settings: Row, named: Path | None = None) -> None:
    """Raise UserError unless what is at `path` was made with `settings`; it is called `named`."""
    named = named or path
    meta = meta_path(path)
    try:
        made_with = read_json(meta)["settings"]
        made_with.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{named} is not empty, and no readable {meta.name} says how it was made; {AFRESH}"
        ) from None
    found = differing_setting(made_with, settings)
    if found is None:
        return
    name, before, now = found
    remedy = AFRESH
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
