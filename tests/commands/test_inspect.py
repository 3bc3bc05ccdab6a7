from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from typer.testing import Result

from erprm_cli.errors import UserError
from tests.tiny_models import save_model, solution_rows


@pytest.fixture(scope="module")
def prm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("prm")))


def lines(*rows: dict[str, object]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def test_every_scored_token_is_marked_where_it_stands(erprm: Callable[..., Result], prm: str) -> None:
    rows = solution_rows(3)
    result = erprm("inspect", "prm", prm, "--prm-format", "er-prm", "-L", 3, stdin=lines(*rows))
    assert result.exception is None
    assert "format er-prm, kind token, build text, tag ' ки' is token 4" in result.stderr
    scored = erprm("score", "--prm", prm, "--prm-format", "er-prm", stdin=lines(*rows)).stdout
    scores = [orjson.loads(line)["scores"] for line in scored.splitlines()]
    tokens = [orjson.loads(line) for line in result.stdout.splitlines()]
    assert [token["step"] for token in tokens] == [1, 1, 2, 1, 2, 3]
    assert [token["score"] for token in tokens] == pytest.approx(sum(scores, []), abs=1e-6)
    assert {token["token"] for token in tokens} == {" ки"} and {token["token_id"] for token in tokens} == {4}
    for row, values in zip(rows, scores, strict=True):
        steps = zip(row["steps"], enumerate(values, start=1), strict=True)
        text = "".join(f"{step}⟦ ки⟧({number}: {score:.4f})" for step, (number, score) in steps)
        assert f"\n<s>{row['problem']} {text}\n" in result.stderr


def test_one_row_is_shown_unless_more_are_asked_for(erprm: Callable[..., Result], prm: str) -> None:
    result = erprm("inspect", "prm", prm, "--prm-format", "er-prm", stdin=lines(*solution_rows(3)))
    assert {orjson.loads(line)["sample"] for line in result.stdout.splitlines()} == {0}


def test_a_row_cannot_write_to_the_terminal(erprm: Callable[..., Result], prm: str) -> None:
    row = solution_rows(1)[0] | {"problem": "Tom \x1b[2J has \u202e3?"}
    stderr = erprm("inspect", "prm", prm, "--prm-format", "er-prm", stdin=lines(row)).stderr
    assert "\x1b" not in stderr and "\u202e" not in stderr


def test_a_tag_that_is_no_token_where_it_stands_is_told(erprm: Callable[..., Result], tmp_path: Path) -> None:
    save_model(tmp_path, keep_tag_apart=False)
    rows = solution_rows(3)[2:]
    result = erprm("inspect", "prm", tmp_path, "--prm-format", "er-prm", stdin=lines(*rows))
    assert isinstance(result.exception, UserError)
    assert "p0, sample 2: step 1: the tag ' ки' is not one token in" in str(result.exception)
