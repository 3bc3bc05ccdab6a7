"""Other tools read our rows correctly, also if late rows differ from the first 110,000.

The code is that of docs/rows.md. Floats are always written as floats, so numbers need no types. If a field is
null in all rows from which a tool infers types, datasets must be given the types, and polars and duckdb must
read all rows first.
"""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.torture import rows

pytestmark = pytest.mark.slow

COUNT, LATE = 120_000, 110_000
PREDICTION = "05"
PAGE = Path(__file__).parent.parent / "docs" / "rows.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def make(folder: Path, null_first: bool) -> Path:
    """Label rows; the late ones have another reward and, with `null_first`, the only predictions."""
    source, path = folder / "in.jsonl", folder / "labels.jsonl"
    early = rows.rollouts(1, k=2) | {"rollouts": None}
    steps = len(early["steps"])
    with source.open("w") as file:
        for number in range(COUNT):
            late = number >= LATE
            value = 0.5 if late else 0.0
            prediction = PREDICTION if late or not null_first else None
            row = early | {"id": str(number), "prediction": prediction, "reward": value}
            file.write(json.dumps(row | {"rollouts": [[value, value]] * (steps - 1) + [[value]]}) + "\n")
    subprocess.run([sys.executable, "-m", "erprm_cli", "label", source, "-q", "-o", path], check=True)
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("interop"), null_first=True)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], Any]:
    """Run the code of docs/rows.md that reads labels.jsonl with a library; return its table."""

    def read(library: str, folder: Path) -> Any:
        pytest.importorskip(library)
        monkeypatch.chdir(folder)
        (code,) = (code for code in SNIPPETS if re.search(rf"^(import|from) {library}\b", code, re.M))
        names: dict[str, Any] = {}
        exec(code, names)
        return names["table"]

    return read


def check(rewards: list[float], labels: list[list[float]], predictions: list[object]) -> None:
    assert [len(rewards), len(labels), len(predictions)] == [COUNT] * 3
    assert (rewards[0], rewards[-1]) == (0.0, 0.5)
    assert {float(label) for label in labels[-1]} == {0.5} and {*map(float, labels[0])} == {0.0}
    assert predictions[-1] == PREDICTION


def test_datasets(labelled: Path, table: Callable[[str, Path], Any]) -> None:
    rows = table("datasets", labelled.parent)
    check(rows["reward"][:], rows["labels"][:], rows["prediction"][:])
    assert rows["prediction"][0] is None


def test_tools_that_infer_types_from_few_rows_read_numbers_right(tmp_path: Path) -> None:
    datasets, duckdb = pytest.importorskip("datasets"), pytest.importorskip("duckdb")
    path = make(tmp_path, null_first=False)
    cache = str(tmp_path / "cache")
    table = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache)
    check(table["reward"][:], table["labels"][:], table["prediction"][:])
    assert duckdb.sql(f"select sum(reward) from '{path}'").fetchall() == [((COUNT - LATE) * 0.5,)]
    polars = pytest.importorskip("polars")
    assert polars.read_ndjson(path)["reward"].sum() == (COUNT - LATE) * 0.5


def test_pandas(labelled: Path, table: Callable[[str, Path], Any]) -> None:
    rows = table("pandas", labelled.parent)
    check(rows["reward"].tolist(), rows["labels"].tolist(), rows["prediction"].tolist())
    assert rows["id"][7] == "7"


def test_pandas_keeps_the_last_digits(table: Callable[[str, Path], Any], tmp_path: Path) -> None:
    labels = [draw.random() for draw in map(random.Random, range(1_000))]
    (tmp_path / "labels.jsonl").write_text(json.dumps({"labels": labels}))
    assert table("pandas", tmp_path)["labels"][0] == labels


def test_polars(labelled: Path, table: Callable[[str, Path], Any]) -> None:
    rows = table("polars", labelled.parent)
    check(rows["reward"].to_list(), rows["labels"].to_list(), rows["prediction"].to_list())


def test_duckdb(labelled: Path, table: Callable[[str, Path], Any]) -> None:
    rows = table("duckdb", labelled.parent).order("id::int").project("reward, labels, prediction").fetchall()
    check(*(list(column) for column in zip(*rows, strict=True)))


def test_jq(labelled: Path) -> None:
    jq = pytest.importorskip("jq")
    program = jq.compile("[.reward, .labels[0], .prediction]")
    lines = labelled.read_text().splitlines()
    found = [program.input_text(line).first() for line in (*lines[:200], *lines[-200:])]
    assert found == [[0.0, 0.0, None]] * 200 + [[0.5, 0.5, PREDICTION]] * 200
