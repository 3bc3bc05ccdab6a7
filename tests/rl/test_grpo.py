"""`erprm rlhf --algorithm grpo` in one process; test_launch.py runs it in several processes."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import Result

from erprm_cli import packages
from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.provenance import write_meta
from erprm_cli.io.reading import read_rows
from erprm_cli.io.run_directory import check_run_directory
from erprm_cli.rl.config import GrpoConfig
from erprm_cli.rl.log_rows import FIELDS
from erprm_cli.rows.schema import check_solution
from tests.rl.runs import FLAGS, Killed, command, short_run

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def unbroken(base: str, problems_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Return the directory and the rows of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("grpo") / "run"
    return folder, short_run(base, problems_file, folder)


@pytest.mark.slow
def test_rows_say_what_the_completions_are_like_and_the_last_names_the_policy(
    unbroken: tuple[Path, Any],
) -> None:
    folder, rows = unbroken
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 4]
    assert all(row.keys() == FIELDS.keys() for row in rows)
    assert rows[0]["loss"] is None and 0 < rows[0]["accuracy"] <= 1
    assert any(row["loss"] for row in rows[1:]) and rows[4]["kl"] > 0  # it has learned something
    for row in rows[1:]:
        assert 0 <= row["outcome"] <= 1 and 0 < row["prm_score"] < 1 and row["kl"] >= 0
        assert row["num_steps"] >= 1 and 0 <= row["truncated"] <= 1 and 0 <= row["without_answer"] <= 1
    tokens = [row["generated_tokens"] for row in rows]
    assert tokens[0] == 0 and tokens[4] == sum(round(4 * row["completion_tokens"]) for row in rows[1:5])
    assert [row["accuracy"] is None for row in rows] == [False, True, True, True, False, False]
    assert [row["policy"] for row in rows] == [None] * 5 + [str(folder / "policy")]
    assert rows[-1]["policy_step"] == 4
    kept = [orjson.loads(line) for line in (folder / "log.jsonl").read_bytes().splitlines()]
    assert kept == rows
    names = ["log.jsonl", "log.jsonl.meta.json", "policy", "step-0", "step-4"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert "trained by GRPO in erprm on 6 problems" in (folder / "policy" / "README.md").read_text()


@pytest.mark.slow
def test_the_solutions_of_an_evaluation_are_kept(problems_file: Path, unbroken: tuple[Path, Any]) -> None:
    folder, rows = unbroken
    for step, accuracy in ((0, rows[0]["accuracy"]), (4, rows[-1]["accuracy"])):
        kept = list(read_rows(str(folder / f"step-{step}" / "eval.jsonl"), check_solution))
        assert [row["id"] for row in kept] == [row["id"] for row in read_rows(str(problems_file), dict)]
        assert sum(row["reward"] for row in kept) / len(kept) == accuracy
        assert {row["sampling"]["temperature"] for row in kept} == {0.0}


@pytest.mark.slow
def test_a_complete_run_is_not_repeated(base: str, problems_file: Path, unbroken: tuple[Path, Any]) -> None:
    assert short_run(base, problems_file, unbroken[0]) == unbroken[1]


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [pytest.param(1, marks=pytest.mark.thorough), 3])
def test_a_killed_run_continues_from_its_last_checkpoint_with_the_same_data(
    base: str, problems_file: Path, unbroken: tuple[Path, Any], kill_at: int, tmp_path: Path
) -> None:
    from tests.training.runs import assert_equal_bits

    with pytest.raises(Killed):
        short_run(base, problems_file, tmp_path / "run", kill_at=kill_at)
    kept = list((tmp_path / "run").glob(".policy.run/checkpoint-*"))
    assert [path.name for path in kept] == ([] if kill_at == 1 else ["checkpoint-2"])
    rows = short_run(base, problems_file, tmp_path / "run")
    expected = [row | {"policy": row["policy"] and str(tmp_path / "run" / "policy")} for row in unbroken[1]]
    assert rows == expected
    assert_equal_bits(tmp_path / "run" / "policy", unbroken[0] / "policy")


@pytest.mark.thorough
def test_adapters_are_trained_with_the_policy_without_them_as_the_reference(
    base: str, problems_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    rows = short_run(base, problems_file, tmp_path / "run", lora_rank=4, grpo={"max_steps": 2})
    assert rows[1]["kl"] == 0.0 and rows[2]["kl"] > 0
    names = {path.name for path in (tmp_path / "run" / "policy").iterdir()}
    assert "adapter_model.safetensors" in names and "ref" not in names and "model.safetensors" not in names


@pytest.mark.thorough
def test_a_killed_run_with_adapters_continues(base: str, problems_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    rows = short_run(base, problems_file, tmp_path / "whole", lora_rank=4)
    with pytest.raises(Killed):
        short_run(base, problems_file, tmp_path / "run", kill_at=3, lora_rank=4)
    again = short_run(base, problems_file, tmp_path / "run", lora_rank=4)
    assert [row | {"policy": None} for row in again] == [row | {"policy": None} for row in rows]
    ours, theirs = (tmp_path / name / "policy" / "adapter_model.safetensors" for name in ("run", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.thorough
@pytest.mark.parametrize("advantage", ["process", "min-form"])
def test_every_advantage_trains(base: str, problems_file: Path, tmp_path: Path, advantage: str) -> None:
    settings = {"advantage": advantage, "max_steps": 1, "beta": 0.0, "mask_truncated_completions": True}
    rows = short_run(base, problems_file, tmp_path / "run", grpo=settings, save_steps=0)
    assert rows[-1]["kl"] is None and rows[-1]["policy"] is not None


@pytest.mark.slow
def test_the_command_trains_and_overwrites_what_it_made(
    erprm: Callable[..., Result], base: str, problems_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    done = command(erprm, base, problems_file, folder, "--advantage", "outcome", "--max-steps", 1)
    assert done.exception is None
    rows = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 1] and rows[-1]["policy"] == str(folder / "policy")
    check_run_directory(folder, {"command": "rlhf"}, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["run.meta.json"]


@pytest.mark.thorough
def test_a_divergence_warns_or_stops_and_keeps_the_best_checkpoint(
    base: str,
    problems_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from erprm_cli.rl.log_rows import Window

    falling = iter([(0.9, 0.1), (0.5, 0.5), (0.4, 0.6), (0.3, 0.7)] * 2)

    def close(window: Window) -> dict[str, float]:
        outcome, score = next(falling)
        return {
            "outcome": outcome,
            "outcome_error": 0.01,
            "prm_score": score,
            "gap_error": 0.01,
            "generated_tokens": 1,
        }

    monkeypatch.setattr(Window, "close", close)
    rows = short_run(base, problems_file, tmp_path / "warned")
    assert (
        "the PRM's score rises while the outcome falls: from 0.100 and 0.900 at step 1"
        in capsys.readouterr().err
    )
    assert rows[-1]["step"] == 4
    rows = short_run(base, problems_file, tmp_path / "stopped", grpo={"stop_on_divergence": 2}, save_steps=0)
    assert (rows[-1]["step"], rows[-1]["policy_step"]) == (3, 1)
    assert "stopped: the PRM's score rises" in (error := capsys.readouterr().err)
    assert "the policy is that of step 1" in error


@pytest.mark.thorough
def test_a_learning_rate_that_breaks_the_policy_is_named(
    base: str, problems_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="the policy is NaN or infinite after step .*; try a smaller --lr"):
        short_run(base, problems_file, tmp_path / "run", lr=1e30, save_steps=0)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-0"]


def test_a_dry_run_counts(
    erprm: Callable[..., Result], base: str, problems_file: Path, tmp_path: Path
) -> None:
    done = command(erprm, base, problems_file, tmp_path / "run", "--dry-run", "--eval", problems_file)
    plan = orjson.loads(done.stdout)
    assert (plan["steps"], plan["completions"], plan["evaluated"]) == (4, 16, 12)
    assert plan["max_generated_tokens"] == (16 + 12) * 100 and not (tmp_path / "run").exists()
    done = command(erprm, base, problems_file, tmp_path / "run", "--dry-run", "--max-steps", 0, "--epochs", 3)
    assert orjson.loads(done.stdout)["steps"] == 9


def test_a_directory_of_another_run_is_refused(
    erprm: Callable[..., Result], base: str, problems_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_meta(folder / "run", {"command": "rlhf", "iterations": 3})  # RAFT's
    done = command(erprm, base, problems_file, folder)
    assert "was made with advantage None, not increments; --overwrite starts again" in str(done.exception)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--iterations", 2], "--iterations: only with --algorithm raft"),
        (
            ["--require-correct", "--slice-size", 5],
            "--slice-size, --require-correct: only with --algorithm raft",
        ),
        (["--packing", "--enforce-eager"], "--packing, --enforce-eager: only with --algorithm raft"),
        (["--outcome-weight", 2], "--outcome-weight is at most 1 with --advantage increments"),
        (["--advantage", "outcome", "--outcome-weight", 0], "--outcome-weight is for a process advantage"),
        (["--vllm-mode", "server"], "--vllm-mode server requires --vllm-server-base-url, and the reverse"),
        (
            ["--engine", "transformers", "--vllm-mode", "server", "--vllm-server-base-url", "http://x"],
            "--vllm-mode server requires --engine vllm",
        ),
        (["-n", 1], "-n must be at least 2 with --algorithm grpo"),
        (["-n", 3], "--batch-size 4 is not a multiple of -n 3"),
        (["--temperature", 0], "--temperature 0 makes all solutions of a problem equal"),
        (["--per-device-train-batch-size", 3], "--batch-size 4 is not a multiple of 3, the solutions of a"),
        (
            ["--num-processes", 3],
            "--batch-size 4 is not a multiple of 3, the solutions of a forward pass (--per-",
        ),
        (["--batch-size", 16], "a step needs 8 problems (--batch-size / -n), but INPUT has 6"),
        (["--trl-arg", "nosuch=1"], "--trl-arg nosuch: TRL's GRPOConfig has no such setting"),
        (["--trl-arg", "beta=1"], "--trl-arg beta: erprm sets it itself, by another flag of `erprm rlhf`"),
        (["--trl-arg", "generation_batch_size=3"], "TRL rejects the settings: "),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_settings_that_cannot_work_are_refused_before_any_work(
    flags: list[object],
    reason: str,
    erprm: Callable[..., Result],
    base: str,
    problems_file: Path,
    tmp_path: Path,
) -> None:
    done = command(erprm, base, problems_file, tmp_path / "run", *flags)
    assert reason in str(done.exception) and isinstance(done.exception, UserError), done.exception
    assert (done.stdout, (tmp_path / "run").exists()) == ("", False)


def test_flags_of_grpo_are_refused_with_raft(erprm: Callable[..., Result], base: str, tmp_path: Path) -> None:
    more = ["--beta", 0.1, "--trl-arg", "top_k=5", "--log-every", 1]
    done = erprm("rlhf", "tiny:train", "--prm", base, "-o", tmp_path / "run", *more)
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "--beta, --trl-arg, --log-every: only with --algorithm grpo"


def test_problems_need_answers(erprm: Callable[..., Result], base: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a", "problem": "Tom has 3?"}\n')
    done = command(erprm, base, tmp_path / "p.jsonl", tmp_path / "run")
    assert "problem 'a': has no answer, but GRPO needs the outcome" in str(done.exception)


def test_an_outcome_reward_model_is_refused(
    erprm: Callable[..., Result],
    base: str,
    problems_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = {"settings": {"outcome_only": True}}
    monkeypatch.setattr("erprm_cli.prm.card.read_card", lambda _: card)
    done = command(erprm, base, problems_file, tmp_path / "run")
    assert "is an outcome reward model, which does not score steps" in str(done.exception)


def test_trl_is_an_extra(
    erprm: Callable[..., Result],
    base: str,
    problems_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "trl" else find_spec(name))
    done = command(erprm, base, problems_file, tmp_path / "run")
    assert "trl is not installed; --algorithm grpo needs: " in str(done.exception)
    assert "[rl]" in str(done.exception)


def test_names_of_trl_are_names_of_flags() -> None:
    from dataclasses import fields

    from trl.trainer.grpo_config import GRPOConfig

    ours = {field.name for field in fields(GrpoConfig)} - {
        "advantage",
        "outcome_weight",
        "trl_arg",
        "stop_on_divergence",
    }
    assert ours <= {field.name for field in fields(GRPOConfig)}
    assert "--algorithm" in FLAGS
