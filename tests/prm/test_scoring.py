import pytest

from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import RowError, UsageError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.options import EngineName
from erprm_cli.prm.scoring import ScoredRows, open_scorer
from erprm_cli.rows.row import Row


def test_a_server_cannot_score() -> None:
    with pytest.raises(UsageError, match="cannot score"):
        open_scorer(EngineConfig("tiny", EngineName.server))


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
    rows = ScoredRows("nowhere", dict, dict)
    assert list(rows.read(path, BadRows())) == []
    rows.close()
