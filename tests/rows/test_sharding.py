import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.errors import UsageError
from erprm_cli.rows.sharding import Shard, choose_shard

Run = Callable[..., Any]
IDS = [f"problem-{number}" for number in range(200)]


def array(tasks: range, task: int) -> dict[str, str]:
    """Return what SLURM tells the task of an array."""
    values = {"ID": task, "COUNT": len(tasks), "MIN": tasks[0], "MAX": tasks[-1], "STEP": tasks.step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def test_each_id_is_in_one_shard_and_the_shares_are_alike() -> None:
    held = [[identity for identity in IDS if identity in Shard(index, 4)] for index in range(4)]
    assert sorted(identity for share in held for identity in share) == sorted(IDS)
    assert all(30 <= len(share) <= 70 for share in held)


@pytest.mark.parametrize("tasks", [range(8), range(1, 9), range(5, 13), range(0, 16, 2), range(1, 16, 2)])
def test_the_tasks_of_an_array_are_different_shards(tasks: range) -> None:
    shards = {choose_shard(None, environment=array(tasks, task)) for task in tasks}
    assert shards == {Shard(index, 8) for index in range(8)}


def test_the_flag_outranks_the_array() -> None:
    assert choose_shard("2/3", environment=array(range(8), 0)) == Shard(2, 3)
    assert choose_shard(None, environment={}) == Shard()


def test_an_array_with_gaps_is_refused() -> None:
    gaps = array(range(8), 3) | {"SLURM_ARRAY_TASK_COUNT": "3"}
    with pytest.raises(UsageError, match="--shard"):
        choose_shard(None, environment=gaps)


@pytest.mark.parametrize("text", ["3", "4/3", "-1/3", "0/0", "a/b", "1/"])
def test_what_is_no_share_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        choose_shard(text)


@pytest.mark.slow
def test_the_shards_together_are_the_whole_run(erprm: Run, tmp_path: Path) -> None:
    arguments = ["tiny:test", "-L", 8, "-n", 2, "--max-tokens", 12, "-q"]
    whole = erprm("sample", *arguments)
    shares = [erprm("sample", *arguments, "--shard", f"{number}/3") for number in (1, 2, 3)]
    parts = [line for share in shares for line in share.stdout.splitlines()]
    assert sorted(parts) == sorted(whole.stdout.splitlines())
    assert len({json.loads(line)["id"] for line in parts}) == 8
    assert all(share.stdout != whole.stdout for share in shares)


def test_a_task_says_its_share_and_finds_the_file_of_another(
    erprm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in array(range(1, 3), 1).items():
        monkeypatch.setenv(name, value)
    target = tmp_path / "out.jsonl"
    arguments = ["tiny:test", "-L", 4, "-n", 1, "--max-tokens", 4, "-o", target]
    first = erprm("sample", *arguments)
    assert (first.exit_code, "shard 1/2 (from the SLURM array)" in first.stderr) == (0, True)
    assert json.loads((tmp_path / "out.jsonl.meta.json").read_text())["settings"]["shard"] == "1/2"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    second = erprm("sample", *arguments)
    assert second.exit_code == 1
    assert "SLURM_ARRAY_TASK_ID" in str(second.exception)


def test_two_tasks_at_once_are_told_to_write_different_files(
    erprm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from erprm_cli.io.writing import open_output

    target = tmp_path / "out.jsonl"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    with open_output(str(target), {}):
        second = erprm("sample", "tiny:test", "-o", target)
    assert "another run" in str(second.exception)
    assert "SLURM_ARRAY_TASK_ID" in str(second.exception)
