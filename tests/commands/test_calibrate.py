"""erprm calibrate: its rows, its diagram, and what it says of wrong use."""

import json
import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from erprm_cli.errors import UsageError

Row = dict[str, Any]
Erprm = Callable[..., Result]


def scored(count: int = 40) -> list[Row]:
    """Rows whose scores are the true rates of their rollouts."""
    rng = random.Random(0)
    rows = []
    for number in range(count):
        scores = [rng.random(), rng.random()]
        rollouts = [[float(rng.random() < score) for _ in range(8)] for score in scores]
        rollouts[-1] = rollouts[-1][:1]
        rows.append(
            {"id": str(number // 2), "sample": number % 2, "problem": "p", "solution": "a b"}
            | {"steps": ["a", "b"], "reward": rollouts[-1][0], "prediction": "1"}
            | {"rollouts": rollouts, "scores": scores, "prm": "runs/soft"}
        )
    return rows


def jsonl(rows: list[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_row_for_steps_and_one_for_solutions_come_out(erprm: Erprm) -> None:
    result = erprm("calibrate", stdin=jsonl(scored()))
    assert result.exception is None
    steps, solutions = map(json.loads, result.stdout.splitlines())
    assert list(steps) == list(solutions)
    assert (steps["of"], steps["against"], steps["count"], steps["problems"]) == ("steps", "rates", 80, 20)
    assert (solutions["of"], solutions["aggregate"], solutions["count"]) == ("solutions", "min", 40)
    assert steps["brier_low"] < steps["brier"] < steps["brier_high"]
    assert steps["auc_low"] < steps["auc"] < steps["auc_high"]
    assert sum(part["count"] for part in steps["bins"]) == 80
    assert f"AUC {steps['auc']:.3f}" in result.stderr
    bars = [line for line in result.stderr.splitlines() if " to " in line and line.endswith("]")]
    assert len(bars) == len(steps["bins"]) + len(solutions["bins"])
    assert erprm("calibrate", "-q", stdin=jsonl(scored())).stderr == ""


def test_eta_and_aggregates_are_passed_on(erprm: Erprm) -> None:
    flags = ["--against", "labels", "--eta", "2", "--aggregate", "last", "--all-aggregates"]
    found = [
        json.loads(line) for line in erprm("calibrate", *flags, stdin=jsonl(scored())).stdout.splitlines()
    ]
    assert (found[0]["against"], found[0]["eta"]) == ("labels", 2.0)
    assert [row["aggregate"] for row in found] == [None, "last", "min", "prod", "mean", "max"]


def test_a_rate_cannot_be_told_from_a_hard_label(erprm: Erprm) -> None:
    result = erprm("calibrate", "--against", "rates", "--eta", "inf", stdin=jsonl(scored()))
    assert isinstance(result.exception, UsageError)


def test_scores_of_a_model_trained_at_another_eta_are_told_apart(erprm: Erprm, tmp_path: Path) -> None:
    (tmp_path / "erprm.json").write_text(json.dumps({"eta": 2.0, "estimator": "er"}))
    text = jsonl([row | {"prm": str(tmp_path)} for row in scored()])
    told = "was trained on labels at eta 2, but is compared with labels at eta 0; --eta 2 compares"
    assert told in erprm("calibrate", "-q", stdin=text).stderr
    for flags in (["--against", "labels", "--eta", "2"], ["--against", "rates", "--eta", "2"]):
        assert erprm("calibrate", "-q", *flags, stdin=text).stderr == ""
    assert erprm("calibrate", "-q", stdin=jsonl(scored())).stderr == ""  # runs/soft says nothing of itself


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")
def test_a_diagram_is_drawn(erprm: Erprm, tmp_path: Path) -> None:
    result = erprm("calibrate", "-q", "--plot", tmp_path / "plot.png", stdin=jsonl(scored()))
    assert result.exception is None
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_scores_on_the_way(erprm: Erprm) -> None:
    rows = [{name: row[name] for name in row if name not in ("scores", "prm")} for row in scored(4)]
    text = jsonl(rows)
    found = erprm("calibrate", "--prm", "tiny", "--prm-format", "er-prm", stdin=text)
    assert found.exception is None
    assert (
        found.stdout
        == erprm(
            "calibrate", stdin=erprm("score", "--prm", "tiny", "--prm-format", "er-prm", stdin=text).stdout
        ).stdout
    )


@pytest.mark.parametrize("flags", [["--eta", "nan"], ["--against", "rates", "--eta", "nan"]])
def test_an_eta_that_is_not_a_number_is_refused(erprm: Erprm, flags: list[str]) -> None:
    assert str(erprm("calibrate", *flags).exception) == "--eta nan is not a number"


@pytest.mark.parametrize("reward", [1.5, -1, 1e308])
def test_rewards_that_are_no_success_rates_are_a_bad_row(erprm: Erprm, reward: float) -> None:
    rows = scored(4)
    rows[1]["rollouts"][0] = [reward, 1.0]
    told = str(erprm("calibrate", stdin=jsonl(rows)).exception)
    assert told.startswith("stdin:2: 'rollouts[0]' contains ") and "outside [0, 1]" in told
