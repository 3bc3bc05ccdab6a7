import json
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.hub import HubName, parse_hub_name
from erprm_cli.io.reading import open_lines, read_rows
from erprm_cli.io.writing import open_output

datasets = pytest.importorskip("datasets")

ROWS = [{"problem": f"{number}?", "answer": str(number)} for number in range(2_500)]


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("hf://openai/gsm8k:main/test", HubName("openai/gsm8k", "main", "test", None)),
        ("hf://HuggingFaceH4/MATH-500:test", HubName("HuggingFaceH4/MATH-500", None, "test", None)),
        ("hf://a/b@v1.0:c/train[:10]", None),
        ("hf://a/b@refs/pr/1:c/d", HubName("a/b", "c", "d", "refs/pr/1")),
        ("hf:///data/my folder:train", HubName("/data/my folder", None, "train", None)),
        ("hf://openai/gsm8k", None),
        ("hf://openai/gsm8k:", None),
        ("hf://:test", None),
        ("hf://", None),
    ],
)
def test_names(name: str, asked: HubName | None) -> None:
    if asked is None:
        with pytest.raises(UsageError, match="OWNER/NAME:SPLIT"):
            parse_hub_name(name)
    else:
        assert parse_hub_name(name) == asked


def test_a_dataset_is_asked_for_by_its_parts_and_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        asked.append((args, kwargs))
        questions = [{"question": "1+1?"}, {"question": "1+2?"}]
        rows = datasets.Dataset.from_list(questions).to_iterable_dataset()
        rows.info.splits = datasets.SplitDict({"test": datasets.SplitInfo("test", num_examples=2)})
        return rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)  # the hub itself is out of a test's reach
    with open_lines("hf://openai/gsm8k@v2:main/test") as lines:
        assert [(line, lines.share_read()) for line in lines] == [
            (b'{"question":"1+1?"}', 0.5),
            (b'{"question":"1+2?"}', 1.0),
        ]
    wanted = {"split": "test", "revision": "v2", "streaming": True}
    assert asked == [(("openai/gsm8k", "main"), wanted)]


def test_a_dataset_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:5]))
    assert list(read_rows(f"hf://{tmp_path}:train", dict)) == ROWS[:5]
    with pytest.raises(UserError, match=r"hf://.*:test: Bad split: test. Available splits: .*train"):
        list(read_rows(f"hf://{tmp_path}:test", dict))
    with pytest.raises(UserError, match="hf://.*nowhere:train: "):
        list(read_rows(f"hf://{tmp_path}/nowhere:train", dict))


def test_a_parquet_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data[1].parquet"
    datasets.Dataset.from_list(ROWS).to_parquet(str(path))
    assert list(read_rows(str(path), dict)) == ROWS
    assert len(list(read_rows(str(path), dict, limit=7))) == 7
    with pytest.raises(UserError, match="as JSON Lines"), open_output(str(tmp_path / "o.parquet"), {}):
        pass


def test_what_is_no_parquet_file_or_holds_bytes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_text("{}")
    with pytest.raises(UserError, match="data.parquet: "):
        list(read_rows(str(path), dict))
    with pytest.raises(UserError, match="absent.parquet: No such file"):
        list(read_rows("absent.parquet", dict))
    datasets.Dataset.from_list([{"image": b"x"}]).to_parquet(str(path))
    with pytest.raises(UserError, match="row 1: cannot be written as JSON"):
        list(read_rows(str(path), dict))


def test_what_json_could_not_hold_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    once, twice = pyarrow.array([1]), pyarrow.array([2])
    inner = pyarrow.StructArray.from_arrays([once, twice], names=["x", "x"])
    for table, told in (
        (pyarrow.table([once, twice], names=["a", "a"]), "the column 'a' occurs twice"),
        (pyarrow.table({"a": inner}), "duplicate field names"),
        (pyarrow.table({"a": [1.5, float("nan")], "b": [1, None]}), "rows.parquet:2: not JSON"),
        (pyarrow.table({"a": [[{"x": float("inf")}]], "b": [None]}), "rows.parquet:1: not JSON"),
    ):
        parquet.write_table(table, path)
        with pytest.raises(UserError, match=told):
            list(read_rows(str(path), dict))
    parquet.write_table(pyarrow.table({"a": [1.5, None]}), path)
    assert list(read_rows(str(path), dict)) == [{"a": 1.5}, {"a": None}]
