import pytest

from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.prm.scoring import LazyScorer, ScoredRows
from erprm_cli.rows.row import Row


def test_flags_of_a_prm_need_one() -> None:
    with pytest.raises(UsageError, match="--prm-format says how to run a PRM; --prm MODEL names it"):
        ScoredRows(None, dict, dict, prm_format="er-prm")
    with pytest.raises(UsageError, match="--engine says how to run a PRM; --prm MODEL names it"):
        ScoredRows(None, dict, dict, engine="transformers")


def test_a_server_needs_its_url() -> None:
    with pytest.raises(UsageError, match="--engine server requires --base-url URL"):
        LazyScorer(EngineConfig("tiny", "server"))


@pytest.mark.parametrize(
    ("prm", "prm_format", "reason"),
    [("./nowhere", None, "no such folder"), ("tiny", "nosuch", "unknown PRM format 'nosuch'; known names: ")],
)
def test_a_wrong_name_is_found_before_a_row_is_read(prm: str, prm_format: str | None, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        ScoredRows(prm, dict, dict, prm_format=prm_format)


def test_without_a_prm_the_scores_are_those_of_the_rows(tmp_path: object) -> None:
    def check_scored(row: Row) -> Row:
        if "scores" not in row:
            raise RowError("no 'scores'")
        return row

    path = f"{tmp_path}/in.jsonl"
    with open(path, "w") as file:
        file.write('{"id": "a", "scores": [0.5]}\n')
    rows = ScoredRows(None, dict, check_scored)
    assert list(rows.read(path, BadRows())) == [{"id": "a", "scores": [0.5]}]
    rows.close()


def test_no_model_is_loaded_for_an_empty_input(tmp_path: object) -> None:
    path = f"{tmp_path}/in.jsonl"
    open(path, "w").close()
    rows = ScoredRows("tiny", dict, dict)  # without a format that fits it
    assert list(rows.read(path, BadRows())) == []
    rows.close()
