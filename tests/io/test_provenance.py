"""FILE.meta.json: settings and runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.errors import UserError
from erprm_cli.io.writing import open_output
from tests.io.helpers import OPENERS, SETTINGS, numbers, write


@pytest.mark.parametrize("opener", OPENERS)
def test_other_settings_are_refused_by_name(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"n": 1}], opener)
    with pytest.raises(UserError, match="made with seed 0, not 1; --overwrite"):
        with opener(str(path), SETTINGS | {"seed": 1}):
            pass
    with pytest.raises(UserError, match="made with top_p None, not 0.5"):
        with opener(str(path), SETTINGS | {"top_p": 0.5}):
            pass
    assert numbers(path) == [1]
    with opener(str(path), SETTINGS | {"seed": 1}, overwrite=True) as output:
        output.write({"n": 2})
    assert numbers(path) == [2]
    with pytest.raises(UserError, match="made with seed 1, not 0"):
        write(path, [], opener)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("meta", [None, "", "[]", '{"settings": null}', '{"settings": 3}'])
def test_a_file_without_settings_is_refused(tmp_path: Path, opener: Any, meta: str | None) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"mine":1}\n')
    if meta is not None:
        (tmp_path / "out.jsonl.meta.json").write_text(meta)
    with pytest.raises(UserError, match="no readable out.jsonl.meta.json.*move it away"):
        write(path, [], opener)
    assert path.read_text() == '{"mine":1}\n'


def test_the_provenance_of_every_run_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for engine in ("one", "two"):
        with open_output(str(path), SETTINGS) as output:
            output.add_provenance({"engine": engine, "commit": "abc"})
            output.write({"n": 1})
    with open_output(str(path), SETTINGS):  # nothing was missing
        pass
    runs = json.loads((tmp_path / "out.jsonl.meta.json").read_text())["runs"]
    assert [run["engine"] for run in runs] == ["one", "two"]
    assert all({"command", "started", "erprm"} <= run.keys() for run in runs)
    with pytest.raises(UserError, match="made with commit abc of the model, not def; --overwrite"):
        with open_output(str(path), SETTINGS) as output:
            output.add_provenance({"commit": "def"})


def test_a_shard_is_told_to_use_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with open_output(str(path), SETTINGS | {"shard": "0/2"}) as output:
        output.write({"n": 1})
    with pytest.raises(UserError, match=r"made with shard 0/2, not 1/2; each shard needs its own file"):
        with open_output(str(path), SETTINGS | {"shard": "1/2"}):
            pass
