from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from typer.testing import Result

from erprm_cli.errors import UsageError, UserError
from erprm_cli.labels.estimator import label_of_rate
from erprm_cli.prm.card import eta_learned
from tests.tiny_models import save_model, solution_rows


@pytest.fixture(scope="module")
def prm(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = save_model(tmp_path_factory.mktemp("Llama3.1-Math-PRM") / "Llama3.1-Math-PRM", max_positions=64)
    return str(folder)


def write(path: Path, count: int) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in solution_rows(count)))
    return path


def test_scores_and_prm_are_added_and_nothing_else_changes(
    erprm: Callable[..., Result], prm: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "solutions.jsonl", 6)
    result = erprm("score", source, "--prm", prm)
    assert result.exception is None
    assert "is read with the format er-prm (known by its name)\n" in result.stderr
    for line, row in zip(result.stdout.splitlines(), solution_rows(6), strict=True):
        scored = orjson.loads(line)
        assert all(0.0 <= score <= 1.0 for score in scored["scores"])
        assert len(scored["scores"]) == len(row["steps"])
        assert list(scored) == [*row, "scores", "prm"] and scored["prm"] == prm
        assert {name: scored[name] for name in row} == row


def test_a_run_that_was_stopped_goes_on_to_the_same_file(
    erprm: Callable[..., Result], prm: str, tmp_path: Path
) -> None:
    source, whole, part = write(tmp_path / "in.jsonl", 9), tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    erprm("score", source, "--prm", prm, "-o", whole)
    erprm("score", source, "--prm", prm, "-o", part)
    complete = part.read_bytes()
    kept = complete.splitlines(keepends=True)[:4]
    part.write_bytes(b"".join(kept) + b'{"id": "torn')
    result = erprm("score", source, "--prm", prm, "-o", part)
    assert result.exception is None and "5 solutions scored, 4 were scored before" in result.stderr
    again = [orjson.loads(line) for line in part.read_bytes().splitlines()]
    first = [orjson.loads(line) for line in whole.read_bytes().splitlines()]
    assert [row["id"] for row in again] == [row["id"] for row in first]
    for ours, theirs in zip(again, first, strict=True):
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-6)


def test_a_solution_that_is_there_twice_is_a_bad_row(
    erprm: Callable[..., Result], prm: str, tmp_path: Path
) -> None:
    """Of two with one key, the second would be taken for done when a stopped run is continued."""
    source = write(tmp_path / "in.jsonl", 3)
    source.write_bytes(source.read_bytes() * 2)
    result = erprm("score", source, "--prm", prm)
    assert isinstance(result.exception, UserError)
    assert f"{source}:4: duplicate id 'p0', sample 0" in str(result.exception)


def test_a_solution_that_is_too_long_is_a_bad_row_and_never_cut(
    erprm: Callable[..., Result], prm: str, tmp_path: Path
) -> None:
    rows = solution_rows(3)
    rows[1]["steps"] = ["Step 1: Tom has 9 is."] * 8
    rows[1]["solution"] = "\n".join(rows[1]["steps"])
    text = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    result = erprm("score", "--prm", prm, stdin=text)
    assert isinstance(result.exception, UserError)
    assert "stdin:2: " in str(result.exception) and "the model reads at most 64" in str(result.exception)
    result = erprm("score", "--prm", prm, "--errors", tmp_path / "bad.jsonl", stdin=text)
    assert len(result.stdout.splitlines()) == 2
    assert "at most 64" in orjson.loads((tmp_path / "bad.jsonl").read_bytes())["reason"]


def test_an_empty_input_needs_no_model(erprm: Callable[..., Result]) -> None:
    result = erprm("score", "--prm", "tiny")
    assert result.exception is None and result.stdout == ""


def test_eta_turns_rates_into_labels(erprm: Callable[..., Result], prm: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", 6)
    rates, labels = (
        [
            orjson.loads(line)["scores"]
            for line in erprm("score", source, "--prm", prm, *more).stdout.splitlines()
        ]
        for more in ([], ["--eta", 2])
    )
    for before, after in zip(sum(rates, []), sum(labels, []), strict=True):
        assert after == pytest.approx(label_of_rate(before, 2.0), abs=1e-6) and after > before


def test_labels_of_a_known_eta_are_relabelled_and_those_of_an_infinite_one_refused() -> None:
    counts = {"eta": 2.0, "settings": {"target": "counts"}}
    assert eta_learned("prm", None) == eta_learned("prm", counts) == 0.0
    assert eta_learned("prm", {"eta": 2.0, "settings": {}}) == 2.0
    with pytest.raises(UsageError, match="infinite eta"):
        eta_learned("prm", {"eta": None, "settings": {}})


def test_an_unknown_model_needs_a_format(erprm: Callable[..., Result], tmp_path: Path) -> None:
    source, folder = write(tmp_path / "in.jsonl", 2), save_model(tmp_path / "prm")
    result = erprm("score", source, "--prm", folder)
    assert isinstance(result.exception, UsageError) and "math-shepherd, qwen" in str(result.exception)
    own = tmp_path / "own.toml"
    own.write_text('prompt = "{problem} "\ntag = " ки"\ngood = " +"\nbad = " -"\n')
    shipped, ours = (
        erprm("score", source, "--prm", folder, "--prm-format", name).stdout for name in ("er-prm", own)
    )
    assert shipped == ours != ""
