"""Other tools read our rows correctly, also if late rows differ from the first 110,000.

Numbers need no special care, because floats are always written as floats. If a field is null in all rows from
which a tool infers types, datasets must be given the types, and polars and duckdb must read all rows first.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture import rows

pytestmark = pytest.mark.slow

COUNT, LATE = 120_000, 110_000


def make(folder: Path, null_first: bool) -> Path:
    """Label rows; the late ones have another reward and, with `null_first`, the only predictions."""
    source, path = folder / "in.jsonl", folder / "out.jsonl"
    early = rows.rollouts(1, k=2) | {"rollouts": None}
    steps = len(early["steps"])
    with source.open("w") as file:
        for number in range(COUNT):
            late = number >= LATE
            value = 0.5 if late else 0.0
            prediction = "5" if late or not null_first else None
            row = early | {"id": str(number), "prediction": prediction, "reward": value}
            file.write(json.dumps(row | {"rollouts": [[value, value]] * (steps - 1) + [[value]]}) + "\n")
    subprocess.run([sys.executable, "-m", "erprm_cli", "label", source, "-q", "-o", path], check=True)
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("interop"), null_first=True)


def check(rewards: list[float], labels: list[list[float]], predictions: list[object]) -> None:
    assert [len(rewards), len(labels), len(predictions)] == [COUNT] * 3
    assert (rewards[0], rewards[-1]) == (0.0, 0.5)
    assert {float(label) for label in labels[-1]} == {0.5} and {*map(float, labels[0])} == {0.0}
    assert predictions[-1] == "5"


def test_datasets(labelled: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    last = json.loads(labelled.read_text().splitlines()[-1])
    table = datasets.load_dataset(
        "json",
        data_files=str(labelled),
        split="train",
        cache_dir=str(tmp_path / "cache"),
        features=datasets.Dataset.from_list([last]).features,
    )
    check(table["reward"][:], table["labels"][:], table["prediction"][:])
    assert table["prediction"][0] is None


def test_tools_that_infer_types_from_few_rows_read_numbers_right(tmp_path: Path) -> None:
    datasets, duckdb = pytest.importorskip("datasets"), pytest.importorskip("duckdb")
    path = make(tmp_path, null_first=False)
    cache = str(tmp_path / "cache")
    table = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache)
    check(table["reward"][:], table["labels"][:], table["prediction"][:])
    assert duckdb.sql(f"select sum(reward) from '{path}'").fetchall() == [((COUNT - LATE) * 0.5,)]
    polars = pytest.importorskip("polars")
    assert polars.read_ndjson(path)["reward"].sum() == (COUNT - LATE) * 0.5


def test_pandas(labelled: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.read_json(labelled, lines=True, dtype={"prediction": str})
    check(table["reward"].tolist(), table["labels"].tolist(), table["prediction"].tolist())


def test_polars(labelled: Path) -> None:
    polars = pytest.importorskip("polars")
    table = polars.read_ndjson(labelled, infer_schema_length=None)
    check(table["reward"].to_list(), table["labels"].to_list(), table["prediction"].to_list())


def test_duckdb(labelled: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    source = f"read_json('{labelled}', sample_size = -1)"
    found = duckdb.sql(f"select reward, labels, prediction from {source} order by id::int").fetchall()
    check(*(list(column) for column in zip(*found, strict=True)))


def test_jq(labelled: Path) -> None:
    jq = pytest.importorskip("jq")
    program = jq.compile("[.reward, .labels[0], .prediction]")
    lines = labelled.read_text().splitlines()
    found = [program.input_text(line).first() for line in (*lines[:200], *lines[-200:])]
    assert found == [[0.0, 0.0, None]] * 200 + [[0.5, 0.5, "5"]] * 200
