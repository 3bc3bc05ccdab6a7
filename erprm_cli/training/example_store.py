"""The examples of one training, on disk: kept as rows are tokenised, found again in a cache."""

import hashlib
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

import orjson

from erprm_cli import __version__
from erprm_cli.errors import UserError
from erprm_cli.io.drafts import new_folder, replace_json
from erprm_cli.io.files import file_hash, read_json
from erprm_cli.io.seal import damage, seal
from erprm_cli.rows.row import Row, to_line
from erprm_cli.training.examples import Example, Examples, ExampleWriter
from erprm_cli.training.run_folder import forget

# Part of every key of the cache. Raise it when a change to the code changes what becomes of a row: its
# check, its conversion from another format, its token ids, targets or weights. Otherwise the cache would
# serve examples that the old code made; tests/training/test_example_store.py fails as a reminder.
TOKENISATION_VERSION = 2

STATS = "stats.json"


class ExampleStore:
    """Examples by split, "train" and "eval", and statistics that are saved and loaded with them.

    `stats` holds `tokens` and `hash` of the examples to train on, and whatever else a task counts; all of it
    must be JSON.
    """

    def __init__(self, folder: Path) -> None:
        """Keep examples in `folder`, which is made for the first one and deleted with this object."""
        self.folder = folder
        self.stats: Row = {"tokens": 0, "hash": ""}
        self._is_open = False  # the folder is ours, or holds loaded examples
        self._writers: dict[str, ExampleWriter] = {}
        self._sets: dict[str, Examples] = {}

    def keep(self, example: Example, row: Row, names: Sequence[str], split: str = "train") -> None:
        """Write one example. `names` are the fields of `row` it was made of; the hash is over them."""
        if split not in self._writers:
            self._make_folder()
            self._writers[split] = ExampleWriter(self.folder / f"{split}.arrow")
        self._writers[split].write(example)
        if split == "train":
            # A chain of hashes instead of one running hash: it can be saved as text.
            line = to_line({name: row[name] for name in names})
            self.stats["hash"] = hashlib.sha256(self.stats["hash"].encode() + line).hexdigest()
            self.stats["tokens"] += len(example.ids)

    @property
    def count(self) -> int:
        """The number of examples to train on so far."""
        if "train" in self._writers:
            return self._writers["train"].count
        return len(self.examples() or ())

    def examples(self, split: str = "train") -> Examples | None:
        """Return the examples of a split, mapped into memory; None if there are none."""
        if split not in self._sets and self._is_open:
            if split in self._writers:
                self._writers.pop(split).close()
            path = self.folder / f"{split}.arrow"
            if path.exists():
                self._sets[split] = Examples(path)
        return self._sets.get(split)

    def save(self) -> Path:
        """Finish writing; return the folder, for `load` in another process."""
        for split in list(self._writers):
            self.examples(split)
        self._make_folder()
        replace_json(self.folder / STATS, self.stats)
        return self.folder

    def load(self, folder: Path) -> None:
        """Use the examples that another store saved in `folder`."""
        self.folder, self._is_open = folder, True
        self.stats = read_json(folder / STATS)

    def load_cached(self, key: str) -> bool:
        """Use the examples that were cached under `key`; return whether there are any."""
        folder = _cache_folder(key)
        if damage(folder) is not None:  # or not there
            return False
        self.load(folder)
        return True

    def save_cached(self, key: str) -> None:
        """Save a copy of the examples under `key`; the cache may be on another disk."""
        with new_folder(_cache_folder(key)) as draft:
            shutil.copytree(self.save(), draft, dirs_exist_ok=True)
            seal(draft)

    def _make_folder(self) -> None:
        if self._is_open:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(error.strerror, where=self.folder) from None
        self._is_open = True
        _owners[self.folder] = owner = object()
        weakref.finalize(self, _forget_own, self.folder, owner)


_owners: dict[Path, object] = {}  # who made a folder last, in this process


def _forget_own(folder: Path, owner: object) -> None:
    """Delete the folder of a store that is gone, unless a later one has made it anew since.

    An error keeps the store of a training that failed alive, and the next one may use the same folder.
    """
    if _owners.get(folder) is owner:
        del _owners[folder]
        forget(folder.parent, folder.name)


def cache_key(sources: Sequence[str], made_with: Row) -> str | None:
    """Return the key of examples that are made of the files `sources`; None if one is not a regular file.

    It covers the bytes of the files, `made_with` (settings and tokenizer) and TOKENISATION_VERSION.
    """
    if not all(source != "-" and Path(source).is_file() for source in sources):
        return None
    versions = {"erprm": __version__, "tokenisation": TOKENISATION_VERSION}
    text = orjson.dumps(made_with | versions, option=orjson.OPT_SORT_KEYS).decode()
    hashes = [file_hash(Path(source)) for source in sources]
    return hashlib.sha256("\0".join([*hashes, text]).encode()).hexdigest()[:32]


def _cache_folder(key: str) -> Path:
    from datasets import config

    return Path(config.HF_DATASETS_CACHE) / "erprm" / key
