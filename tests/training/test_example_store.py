"""The cache of tokenised files: what is found again, and what must not be."""

import gc
import hashlib
import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest

from erprm_cli.policy.templates import load_template
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training import example_store
from erprm_cli.training.config import PolicyTrainingConfig, PrmTrainingConfig
from erprm_cli.training.example_store import ExampleStore
from erprm_cli.training.policy_task import PolicyTask
from erprm_cli.training.prm_task import PrmTask
from erprm_cli.training.task import TrainingTask
from tests.tiny_models import solution_rows

# The digest of the examples that the code makes of some rows at this TOKENISATION_VERSION. If it changes, the
# code makes other examples of the same rows: raise TOKENISATION_VERSION and put the new digest here.
VERSION, DIGEST = 2, "73047567b66a0876"
TRL = {"prompt": "Tom has 3?", "completions": ["Tom gets 3 more.", "So 6."], "labels": [True, False]}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"kind": "head", "format": "trl", "outcome_only": True},
    {"weighting": "solution", "max_length": 40, "truncate": True, "eval_fraction": 0.3},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file of its own content, which no other test has cached."""
    rows = solution_rows(8, labels=True)
    rows[0]["problem"] += f" {tmp_path.name}"
    return write(tmp_path / "labels.jsonl", rows)


class Read:
    """Reads a file as `erprm train` does and counts the rows that were tokenised for it."""

    def __init__(self, base: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base, self.folder, self.tokenised = base, folder, 0
        encode = PrmTask._add

        def counted(task: PrmTask, row: dict[str, Any], split: str) -> None:
            self.tokenised += 1
            encode(task, row, split)

        monkeypatch.setattr(PrmTask, "_add", counted)

    def __call__(self, source: Path | str, limit: int | None = None, **changes: Any) -> int:
        self.tokenised = 0
        self.task = PrmTask(PrmTrainingConfig(self.folder / "prm", self.base, **changes))
        self.task.read(str(source), limit=limit)
        return self.tokenised


@pytest.fixture
def read(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    return Read(base, tmp_path, monkeypatch)


def contents(task: TrainingTask) -> list[Any]:
    found: list[Any] = [task.stats]
    for split in ("train", "eval"):
        for example in task.store.examples(split) or ():
            arrays = (example.ids, example.positions, example.targets, example.weights)
            found.append([split, example.is_right, *(array.tolist() for array in arrays)])
    return found


def test_a_file_that_was_tokenised_is_found_again(
    base: str, source: Path, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(source) == 8
    first = contents(read.task)
    assert read(source) == 0
    assert contents(read.task) == first
    read.task.read(str(source), reporter=Reporter("train"))
    assert f"{source} was tokenised before; its examples are in " in capsys.readouterr().err


def test_a_store_that_is_gone_leaves_the_folder_of_a_later_one(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first, second = ExampleStore(folder), ExampleStore(folder)
    assert first.save() == second.save() == folder
    del first
    gc.collect()
    assert os.listdir(folder) == ["stats.json"]
    del second
    gc.collect()
    assert not folder.exists()


def test_another_version_of_the_tokenisation_serves_no_stale_examples(
    source: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(source) == 8
    monkeypatch.setattr(example_store, "TOKENISATION_VERSION", VERSION + 1)
    assert read(source) == 8
    monkeypatch.setattr(example_store, "TOKENISATION_VERSION", VERSION)
    assert read(source) == 0


def test_other_rows_settings_or_formats_are_tokenised_again(source: Path, read: Read) -> None:
    assert read(source) == 8
    assert read(source, limit=3) == 3
    assert read(source, max_length=100) == read(source, outcome_only=True) == read(source, kind="head") == 8
    own = source.with_name("own.toml")
    own.write_text('prompt = "{problem} "\ntag = " ки"\ngood = " +"\nbad = " -"\n')
    assert read(source, format=str(own)) == 8 and read(source, format=str(own)) == 0
    own.write_text(own.read_text().replace("{problem} ", "Q: {problem} "))  # the same name, another format
    assert read(source, format=str(own)) == 8
    source.write_bytes(source.read_bytes().replace(b"0.875", b"0.75"))
    assert read(source) == 8


@pytest.mark.parametrize("name", ["stats.json", "train.arrow", "seal.json"])
def test_damaged_examples_in_the_cache_are_made_again(source: Path, read: Read, name: str) -> None:
    source.write_bytes(source.read_bytes().replace(b"Tom", name.encode()))  # so that nothing is cached yet
    assert read(source) == 8 and read(source) == 0
    (path,) = (path for path in read.task.store.folder.iterdir() if path.name == name)
    path.write_bytes(b"{}")
    assert read(source) == 8 and read(source) == 0


def test_a_validation_file_is_part_of_what_is_cached(source: Path, read: Read) -> None:
    held_out = write(source.with_name("eval.jsonl"), solution_rows(4, labels=True))
    assert read(source, eval=str(held_out)) == 12 and read(source, eval=str(held_out)) == 0
    assert len(read.task.store.examples("eval") or ()) == 4
    write(held_out, solution_rows(3, labels=True))
    assert read(source, eval=str(held_out)) == 11


def test_what_is_not_a_file_is_not_cached(source: Path, base: str) -> None:
    assert example_store.cache_key([str(source)], {}) is not None
    assert example_store.cache_key(["-"], {}) is None
    assert example_store.cache_key([str(source), "tiny:test"], {}) is None


def test_another_template_is_another_tokenisation(base: str, tmp_path: Path) -> None:
    config, template = PolicyTrainingConfig(tmp_path / "policy", base), load_template("tiny")
    one, other = (PolicyTask(each, config) for each in (template, replace(template, prompt="{problem}\n")))
    assert one.tokenisation() != other.tokenisation()


def test_the_version_is_raised_when_the_examples_change(base: str, tmp_path: Path) -> None:
    files = [
        write(tmp_path / "ours.jsonl", solution_rows(8, labels=True)),
        write(tmp_path / "trl.jsonl", [TRL]),
    ]
    tasks: list[TrainingTask] = []
    for source, settings in product(files, SETTINGS):
        output = tmp_path / f"prm-{len(tasks)}"
        tasks.append(PrmTask(PrmTrainingConfig(output, base, **settings)))
        tasks[-1].add_rows(str(source), None, None, Reporter("train"))
    tasks.append(PolicyTask(load_template("tiny"), PolicyTrainingConfig(tmp_path / "policy", base)))
    for row in solution_rows(8):
        tasks[-1].add(row)
    found = [contents(task) for task in tasks]
    digest = hashlib.sha256(orjson.dumps(found)).hexdigest()[:16]
    assert (example_store.TOKENISATION_VERSION, digest) == (VERSION, DIGEST)


def test_examples_of_a_task_that_ends_are_deleted(base: str, tmp_path: Path) -> None:
    task = PrmTask(PrmTrainingConfig(tmp_path / "prm", base))
    task.add(solution_rows(1, labels=True)[0])
    assert task.store.folder.is_dir()
    del task
    assert not list(tmp_path.iterdir())
