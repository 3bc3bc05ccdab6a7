"""FILE.meta.json beside an output FILE: the settings that made it, and its runs, without secrets.

{"settings": {...}, "runs": [{"command": ..., "inputs": ..., "started": ..., "erprm": ..., "commit": ...}]}
"""

import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from erprm_cli import __version__
from erprm_cli.errors import UserError
from erprm_cli.io.drafts import replace_json
from erprm_cli.io.ownership import REMEDY, read_sidecar, sidecar
from erprm_cli.io.settings import as_written, difference, predates_contents, unchanged_since
from erprm_cli.rows.row import Row

SECRET = re.compile(r"(?:token|secret|password|key)$", re.IGNORECASE)
ANOTHER_N = re.compile(r" --?n[ =]?\d+")  # in a command line; it adds samples to the same file
HIDDEN = "..."  # in place of a secret
START_AGAIN = "--overwrite starts again, another -o keeps both"


def command_line() -> str:
    """Return the command to type again: without --overwrite, and with ... in place of secrets."""
    words, hidden = [], False
    for word in sys.argv[1:]:
        name = word.partition("=")[0]
        secret = name.startswith("-") and is_secret(name)
        if word != "--overwrite":
            words.append(HIDDEN if hidden else f"{name}={HIDDEN}" if secret and "=" in word else word)
        hidden = secret and "=" not in word
    return shlex.join(["erprm", *words])


def is_secret(name: str) -> bool:
    """Return whether a flag or setting of this name holds a secret, which must not be written to a file.

    >>> [is_secret(name) for name in ("--api-key", "hf_token", "--max-tokens", "tokenizer")]
    [True, True, False, False]
    """
    return bool(SECRET.search(name))


# The inputs that the flags of this run name. Like sys.argv, it belongs to the process.
read_by_this_run: list[str] = []


def _input_hash(name: str) -> str | None:
    from erprm_cli.io.content import sampled_hash  # here, because `--help` loads this module

    try:
        return sampled_hash(Path(name))
    except OSError:  # stdin, a shipped set, the Hub
        return None


def this_run() -> Row:
    """Return the entry of this run in `runs`: of each input, its hash; null for what is not a file."""
    return {
        "command": command_line(),
        "inputs": {name: _input_hash(name) for name in read_by_this_run},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "erprm": __version__,
    }


def write_meta(path: Path, settings: Row) -> None:
    """Write a new sidecar of `path`, with this run in it."""
    replace_meta(path, {"settings": as_written(settings), "runs": [this_run()]})


def read_meta(path: Path, named: Path | None = None) -> Row:
    """Return the sidecar of `path`; UserError if it is missing or damaged. Errors call the file `named`."""
    try:
        return read_sidecar(sidecar(path))
    except ValueError as error:
        raise UserError(
            f"{named or path} is not empty, and no readable {sidecar(path).name} says how it was made "
            f"({error})",
            remedy=REMEDY.format("-o"),
        ) from None


def replace_meta(path: Path, meta: Row) -> None:
    """Replace the sidecar of `path`; UserError if that fails."""
    replace_json(sidecar(path), meta)


def check_meta(path: Path, settings: Row, named: Path | None = None) -> None:
    """Raise UserError unless the sidecar of `path` has the same settings. Errors call the file `named`.

    A file of a version that recorded less is continued by the same command (or one with another -n), if
    nothing that its settings name has changed since; see `update_meta`.
    """
    named = named or path
    meta = read_meta(path, named)
    made_with, first = meta["settings"], meta["runs"][0]
    found = difference(made_with, settings)
    if found is not None:
        remedy = START_AGAIN
        writer, ours = (line.split()[:2] for line in (str(first.get("command")), command_line()))
        # In a notebook or a script, what was run is not `erprm COMMAND`, and its words say nothing here.
        if writer != ours and all(word.isalpha() for word in writer + ours):
            raise UserError(f"{named} was made by `{' '.join(writer)}`", remedy=remedy)
        if found.name == "shard":
            remedy = "each shard needs its own file; put $SLURM_ARRAY_TASK_ID into the name"
        raise UserError(f"{named} was made with {found.text}", remedy=remedy)
    if predates_contents(made_with, settings):
        command = str(first.get("command"))
        if ANOTHER_N.sub("", command) != ANOTHER_N.sub("", command_line()):
            raise UserError(
                f"{named} was made by an earlier version of erprm, which recorded fewer settings, so only "
                "the same command can continue it",
                remedy=START_AGAIN,
            )
        templates = [Path(word) for word in shlex.split(command) if word.endswith(".toml")]
        if not unchanged_since(_moment(first.get("started")), settings, templates):
            raise UserError(
                f"{named} was made by an earlier version of erprm, and its model, template or input may have "
                "changed since",
                remedy=START_AGAIN,
            )


def update_meta(path: Path, settings: Row) -> None:
    """Record the `settings`, which passed `check_meta`, if an earlier version recorded fewer of them."""
    meta = read_meta(path)
    if predates_contents(meta["settings"], settings):
        replace_meta(path, meta | {"settings": as_written(settings)})


def _moment(started: object) -> float:
    """Return when a run started, in seconds since the epoch; 0 if its entry does not say."""
    try:
        return datetime.fromisoformat(str(started)).timestamp()
    except ValueError:
        return 0.0
