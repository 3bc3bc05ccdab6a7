"""erprm processbench on real rows: what it writes, which threshold it takes, and scores made on the way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from erprm_cli.errors import UsageError, UserError

Row = dict[str, Any]
Erprm = Callable[..., Result]

# QwenLM/ProcessBench, Apache-2.0
REAL = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "processbench_rows.jsonl").read_text().splitlines()
]


def scored(rows: list[Row], right: float, wrong: float) -> list[Row]:
    """Rows scored by an oracle: `wrong` at the first error and `right` elsewhere."""
    return [
        row | {"scores": [wrong if i == row["label"] else right for i in range(len(row["steps"]))]}
        for row in rows
    ]


def write(path: Path, rows: list[Row], array: bool = False) -> Path:
    path.write_text(json.dumps(rows) if array else "".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(text: str) -> list[Row]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_oracle_on_real_rows_in_two_files(erprm: Erprm, tmp_path: Path) -> None:
    good = write(tmp_path / "gsm8k.json", scored(REAL, 0.9, 0.1), array=True)
    low = write(tmp_path / "math.jsonl", scored(REAL, 0.4, 0.2))
    result = erprm("processbench", good, low)
    assert result.exit_code == 0, result.output
    found = rows_of(result.stdout)
    assert [(row["split"], row["threshold"], row["f1"]) for row in found] == [
        ("gsm8k", 0.5, 1.0),
        ("math", 0.5, 0.0),
        ("average", 0.5, 0.5),
    ]
    errors = sum(row["label"] >= 0 for row in REAL)
    assert (found[0]["with_error"], found[0]["without_error"]) == (errors, len(REAL) - errors)
    assert found[1]["correct_accuracy"] == 0.0
    assert "0.5, fixed" in result.stderr and "average" in result.stderr
    for flags, expected in ((["--tune-on", "math"], 0.3), (["--oracle"], 0.5)):
        rows = rows_of(erprm("processbench", good, low, *flags).stdout)
        assert [row["threshold"] for row in rows[:2]] == pytest.approx([expected, 0.3])
        assert rows[2]["threshold"] == (None if "--oracle" in flags else rows[0]["threshold"])
        assert rows[1]["f1"] == 1.0


def test_a_model_scores_on_the_way_what_score_scores(erprm: Erprm, tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "problem": "Tom has 2 coins.", "steps": ["Tom has 2.", "So 3."], "label": i % 3 - 1}
        for i in range(6)
    ]
    result = erprm(
        "processbench", "--prm", "tiny", "--prm-format", "er-prm", stdin="\n".join(map(json.dumps, rows))
    )
    assert result.exception is None, result.exception
    solutions = [row | {"sample": 0, "solution": "Tom has 2.\nSo 3.", "label": row["label"]} for row in rows]
    source = write(tmp_path / "solutions.jsonl", solutions)
    again = erprm(
        "processbench", stdin=erprm("score", source, "--prm", "tiny", "--prm-format", "er-prm").stdout
    )
    assert rows_of(result.stdout) == rows_of(again.stdout)
    assert rows_of(result.stdout)[0]["prm"] == "tiny"


def test_the_scored_rows_can_be_judged_again(erprm: Erprm, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.json", scored(REAL, 0.9, 0.1), array=True) for name in "ab"]
    first = erprm("processbench", *files, "--scored", tmp_path / "scored.jsonl")
    rows = rows_of((tmp_path / "scored.jsonl").read_text())
    assert [row.pop("split") for row in rows] == ["a"] * len(REAL) + ["b"] * len(REAL)
    assert rows == scored(REAL, 0.9, 0.1) * 2
    assert erprm("processbench", tmp_path / "scored.jsonl").stdout == first.stdout
    assert isinstance(erprm("processbench", *files, "--scored", "-").exception, UsageError)


def test_a_split_without_errors_has_no_f1_and_a_warning(erprm: Erprm) -> None:
    row = {"id": "a", "problem": "p", "steps": ["x"], "label": -1, "scores": [0.7]}
    result = erprm("processbench", "-q", stdin=json.dumps(row))
    assert rows_of(result.stdout)[0]["f1"] is None
    assert "stdin has no row with a wrong step, so it has no F1" in result.stderr


def test_the_limit_is_for_each_file(erprm: Erprm, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.json", scored(REAL, 0.9, 0.1), array=True) for name in "ab"]
    found = rows_of(erprm("processbench", *files, "-L", "8").stdout)
    assert [row["with_error"] + row["without_error"] for row in found] == [8, 8, 16]


@pytest.mark.parametrize("flags", [["--oracle", "--threshold", "0.5"], ["--oracle", "--tune-on", "a"]])
def test_two_rules_for_the_threshold_are_wrong_usage(erprm: Erprm, flags: list[str]) -> None:
    assert isinstance(erprm("processbench", *flags).exception, UsageError)


def test_rows_without_scores_name_the_remedy(erprm: Erprm, tmp_path: Path) -> None:
    result = erprm("processbench", write(tmp_path / "gsm8k.json", REAL, array=True))
    assert isinstance(result.exception, UserError)
    assert "gsm8k.json:1: no 'scores'" in str(result.exception)
    assert "--prm MODEL" in str(result.exception)


def test_a_wrong_split_to_tune_on_is_found_before_the_prm_is_loaded(
    erprm: Erprm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erprm_cli.prm.scoring.open_scorer", None)
    paths = [write(tmp_path / f"{name}.jsonl", REAL) for name in ("gsm8k", "math")]
    done = erprm("processbench", *paths, "--prm", "tiny", "--tune-on", "omnimath")
    assert str(done.exception) == "no split 'omnimath' to tune on; splits: gsm8k, math"


@pytest.mark.parametrize("missing", ["second.jsonl", "hf://bad name"])
def test_every_input_is_looked_for_first(erprm: Erprm, tmp_path: Path, missing: str) -> None:
    first = write(tmp_path / "first.jsonl", REAL)
    done = erprm("processbench", first, missing)
    assert str(done.exception).startswith(missing) and done.stdout == ""


def test_two_prms_are_compared_on_the_same_rows(erprm: Erprm, tmp_path: Path) -> None:
    ours = write(tmp_path / "er.jsonl", scored(REAL, 0.9, 0.1))
    theirs = write(tmp_path / "orm.jsonl", [row | {"prm": "models/orm"} for row in scored(REAL, 0.4, 0.2)])
    table = tmp_path / "f1.md"
    done = erprm("processbench", ours, "--compare", theirs, "--table", table)
    assert done.exception is None, done.exception
    assert [(row["split"], row["prm"], row["minus"], row["f1"]) for row in rows_of(done.stdout)] == [
        ("er", "er", None, 1.0),
        ("er", "orm", None, 0.0),
        ("er", "er", "orm", 1.0),
    ]
    assert "scores of er, orm" in done.stderr and "er - orm" in done.stderr
    assert "er - orm" in table.read_text()


def test_other_rows_cannot_be_compared(erprm: Erprm, tmp_path: Path) -> None:
    ours = write(tmp_path / "er.jsonl", scored(REAL, 0.9, 0.1))
    fewer = write(tmp_path / "orm.jsonl", scored(REAL[1:], 0.9, 0.1))
    message = f"orm.jsonl: lacks 1 of {len(REAL)} rows of INPUT; a comparison needs the same rows"
    assert message in str(erprm("processbench", ours, "--compare", fewer).exception)
    assert "no-such" in str(erprm("processbench", ours, "--compare", tmp_path / "no-such").exception)
