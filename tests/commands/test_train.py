from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from typer.testing import Result

from erprm_cli.errors import UserError
from erprm_cli.training.prm_task import PrmTask
from tests.tiny_models import save_model, solution_rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("base")))


def lines(count: int) -> str:
    return "".join(orjson.dumps(row).decode() + "\n" for row in solution_rows(count, labels=True))


def test_labels_go_in_and_a_model_that_scores_comes_out(
    erprm: Callable[..., Result], base: str, tmp_path: Path
) -> None:
    prm = tmp_path / "prm"
    result = erprm("train", "--base", base, "-o", prm, "--lr", "1e-2", "--batch-size", 8, stdin=lines(24))
    assert result.exception is None
    rows = [orjson.loads(line) for line in result.stdout.splitlines()]
    assert rows[-1]["model"] == str(prm) and rows[-1]["rows"] == 24 and rows[-1]["step"] == 3
    assert {"step", "epoch", "loss", "lr", "left_out", "seconds", "tokens_per_s"} <= rows[-1].keys()
    scored = erprm("score", "--prm", prm, stdin=lines(3))
    assert [len(orjson.loads(line)["scores"]) for line in scored.stdout.splitlines()] == [1, 2, 3]


def test_a_bad_row_names_its_line_or_goes_to_errors(
    erprm: Callable[..., Result], base: str, tmp_path: Path
) -> None:
    text = lines(4) + '{"id": "x"}\n' + lines(4)
    result = erprm("train", "--base", base, "-o", tmp_path / "prm", stdin=text)
    assert isinstance(result.exception, UserError)
    assert "stdin:5: no 'problem'" in str(result.exception) and "--errors" in str(result.exception)
    bad = tmp_path / "bad.jsonl"
    result = erprm("train", "--base", base, "-o", tmp_path / "prm", "--errors", bad, stdin=text)
    assert "1 bad row was written to" in str(result.exception)
    assert orjson.loads(bad.read_bytes())["place"] == "stdin:5"
    assert orjson.loads(result.stdout.splitlines()[-1])["rows"] == 8


def test_an_empty_input_is_an_error(erprm: Callable[..., Result], base: str, tmp_path: Path) -> None:
    result = erprm("train", "--base", base, "-o", tmp_path / "prm")
    assert "nothing to train on" in str(result.exception)
    assert result.stdout == "" and not (tmp_path / "prm").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nosuch.jsonl"], "nosuch.jsonl: No such file or directory"),
        (["rows.jsonl", "--eval", "nosuch.jsonl"], "nosuch.jsonl: No such file or directory"),
        (["rows.jsonl", "--prm-format", "nosuch"], "unknown PRM format 'nosuch'"),
        (["rows.jsonl", "--prm-format", "qwen"], "--prm-format qwen does not suit --kind token"),
        (["rows.jsonl", "--optim", "nosuch"], "no optimizer 'nosuch'; there are "),
        (["rows.jsonl", "--attn-implementation", "nosuch"], "no attention 'nosuch'; there are "),
        (["rows.jsonl", "--accelerate-config", "nosuch"], "unknown accelerate configuration 'nosuch'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_later_stage_needs_is_looked_for_before_a_row_is_read(
    words: list[str],
    reason: str,
    erprm: Callable[..., Result],
    base: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PrmTask, "add", None)
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(lines(2))
    done = erprm("train", *words, "--base", base, "-o", "prm")
    assert str(done.exception).startswith(reason), done.exception
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]
