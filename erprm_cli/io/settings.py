"""The settings that made an output, compared with those of now: by value, and what is a file by its content.

A setting NAME that stands for files has a second one, NAME_content, which is a hash when it is written.
"""

from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import orjson

from erprm_cli.io.content import Content
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import one_line

CONTENT = "_content"
SHOWN = 200  # characters of a value in a message: enough for most paths


class Difference(NamedTuple):
    """The first setting that differs, and how: "seed 0, not 1"."""

    name: str
    text: str


def as_written(settings: Row) -> Row:
    """Return `settings` as they are read from a file later, with hashes in place of contents.

    Raises UserError for a content that cannot be read.
    """
    # Not with orjson's `default`, which would make a TypeError of an error.
    hashed = {name: value.hash() if isinstance(value, Content) else value for name, value in settings.items()}
    written: Row = orjson.loads(orjson.dumps(hashed))
    return written


def difference(made_with: Row, settings: Row) -> Difference | None:
    """Return the first difference by name between `made_with`, read from a file, and `settings`, or None.

    A missing setting equals one that is null. If contents are equal, their names may differ. What an earlier
    version of erprm did not record is not compared; see `predates_contents`.

    >>> difference({"seed": 0, "stop": [1, 2]}, {"seed": 1, "stop": (1, 2), "shard": None}).text
    'seed 0, not 1'
    >>> difference({"prm": "a", "prm_content": "12ab"}, {"prm": "b", "prm_content": "12ab"})
    >>> difference({"prm": "a", "prm_content": "12ab"}, {"prm": "a", "prm_content": "34cd"}).text
    'another version of prm a'
    """
    asked = as_written(settings)
    names = made_with.keys() if predates_contents(made_with, settings) else made_with.keys() | asked.keys()
    for name in sorted(names):
        before, now = made_with.get(name), asked.get(name)
        content = asked.get(name + CONTENT)
        if before == now or (content is not None and content == made_with.get(name + CONTENT)):
            continue
        what = name.removesuffix(CONTENT)
        if what != name:
            return Difference(name, f"another version of {what} {_shown(asked.get(what) or '')}".rstrip())
        return Difference(name, f"{name} {_shown(before)}, not {_shown(now)}")
    return None


def predates_contents(made_with: Row, settings: Row) -> bool:
    """Return whether an earlier version of erprm wrote `made_with`: one that recorded no contents."""
    names = [name.removesuffix(CONTENT) for name in _contents(settings)]
    return any(name in made_with for name in names) and not any(map(_is_content, made_with))


def unchanged_since(moment: float, settings: Row, others: Iterable[Path] = ()) -> bool:
    """Return whether no content among `settings` and no other file has changed since a moment.

    `moment` is in seconds since the epoch.
    """
    paths = chain(others, *(content.paths for content in _contents(settings).values()))
    with suppress(OSError):  # a file that is not there any more
        return all(path.stat().st_ctime < moment for path in paths)
    return False


def _contents(settings: Row) -> dict[str, Content]:
    return {name: value for name, value in settings.items() if isinstance(value, Content)}


def _is_content(name: str) -> bool:
    return name.endswith(CONTENT)


def _shown(value: object) -> str:
    return one_line(str(value), SHOWN)
