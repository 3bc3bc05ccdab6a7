"""The study (templates/pipelines/study.sh): its statistics by hand, and the whole at a tiny size."""

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from study_choices import choices
from study_cost import design, parts, table
from study_exact_rates import with_rates

from erprm_cli.evaluation.resampling import RESAMPLES
from erprm_cli.io.writing import write_rows

ROOT = Path(__file__).parents[1]
PIPELINES = ROOT / "templates" / "pipelines"

Row = dict[str, Any]


def load(name: str) -> ModuleType:
    """Return a script of templates/pipelines as a module."""
    spec = importlib.util.spec_from_file_location(name, PIPELINES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tables, pooling, result = load("study_tables"), load("study_pool"), load("study_result")

POLICY = {
    "label": "policy",
    "temperature": 1.3,
    "problems": 2,
    "distinct": 1.5,
    "missing": None,
    "accuracy": {},
}


def model(label: str, seed: int, values: list[float], size: int = 50, k: int = 4) -> Row:
    """Return the row of a model with the same accuracies for every n."""
    accuracy = {f"min@{n}": values for n in (1, 16, 64)}
    bins = [{"low": 0.5, "high": 0.6, "count": seed, "score": 0.5, "target": 0.25 * seed}]
    fit = {"auc": 0.9, "brier": 0.1, "calibration_error": 0.2, "bins": bins}
    return {"label": label, "size": size, "k": k, "seed": seed, "eta": 0.0, **fit, "accuracy": accuracy}


# ---- Statistics


def test_holm_multiplies_the_smallest_p_by_the_number_of_comparisons() -> None:
    assert tables.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert tables.holm([0.5, 0.9]) == [1.0, 1.0]


def test_equal_models_differ_by_nothing() -> None:
    rows = [model(label, seed, [0.5, 1.0]) for label in ("er1", "soft") for seed in (1, 2)]
    found = tables.Study([POLICY, *rows]).difference("er1", "soft", "min@64")
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_difference_is_paired_on_problems_and_seeds() -> None:
    """Accuracies vary much, the difference does not: it is 0.1 for every seed and problem."""
    soft = [model("soft", 1, [0.1, 0.9]), model("soft", 2, [0.5, 0.3])]
    er = [model("er1", 1, [0.2, 1.0]), model("er1", 2, [0.6, 0.4])]
    found = tables.Study([POLICY, *er, *soft]).difference("er1", "soft", "min@64")
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.p == 2 / RESAMPLES


def test_a_difference_is_over_the_settings_that_both_labels_have() -> None:
    rows = [model("soft", 1, [0.0, 0.0], k=4), model("soft", 1, [0.5, 0.5], k=16)]
    rows.append(model("hard", 1, [0.0, 0.5], k=16))
    study = tables.Study([POLICY, *rows])
    assert study.settings("soft", "hard") == [(50, 16)]
    assert study.difference("soft", "hard", "min@16").value == pytest.approx(0.25)
    assert study.difference("soft", "hard", "min@16", [(50, 4)]) is None
    assert study.difference("soft", "er1", "min@16") is None


def test_a_seed_that_is_not_complete_is_left_out() -> None:
    rows = [model("soft", 1, [0.0, 0.0]), model("hard", 1, [0.0, 0.5]), model("soft", 2, [1.0, 1.0])]
    study = tables.Study([POLICY, *rows])
    assert study.seeds == [1]
    assert study.accuracy("soft", [(50, 4)], "min@64").tolist() == [[0.0, 0.0]]


def test_the_smallest_difference_that_is_found_has_a_power_of_80_percent() -> None:
    """A difference of FOUND standard errors is beyond the 99.5 % quantile with a probability of 0.8."""

    def normal(z: float) -> float:
        return (1 + math.erf(z / math.sqrt(2))) / 2

    assert 1 - normal(2.5758) == pytest.approx(0.005, abs=1e-5)
    assert 1 - normal(2.5758 - tables.FOUND) == pytest.approx(0.8, abs=1e-4)


def test_a_reliability_curve_weighs_bins_by_their_counts() -> None:
    study = tables.Study([POLICY, model("soft", 1, [0.0, 0.0]), model("soft", 3, [0.0, 0.0])])
    ((score, target),) = tables.reliability_curve(study, "soft").points
    assert (score, target) == (0.5, (1 * 0.25 + 3 * 0.75) / 4)


# ---- The pool, and what a model gets out of it


def solution(steps: list[str], reward: float, **fields: Any) -> Row:
    row = {
        "id": "a",
        "problem": "?",
        "answer": "2",
        "steps": steps,
        "solution": "\n".join(steps),
        "reward": reward,
    }
    return row | {"prediction": steps[-1], "sample": 0} | fields


CANDIDATES = [solution(["x", "2"], 1.0), solution(["y", "3"], 0.0), solution(["x", "2"], 1.0)]
TREE = {"id": "a", "problem": "?", "answer": "2", "temperatures": [0.7, 1.3]} | {
    "solutions": [
        {"steps": ["x", "2"], "reward": 1.0, "log_probs": [math.log(0.6), math.log(0.3)]},
        {"steps": ["z", "2"], "reward": 1.0, "log_probs": [math.log(0.2), math.log(0.1)]},
    ]
}


def pool() -> list[Row]:
    reference = [solution(["y", "3"], 0.0, rollouts=[[0.0, 1.0], [0.0]])]
    found = pooling.gather(CANDIDATES, reference, [TREE])
    pooling.number_answers(found)
    return [row for own in found.values() for row in own.values()]


def test_the_pool_has_each_different_solution_once() -> None:
    rows = pool()
    assert [(row["steps"], row["sample"], row["count"]) for row in rows] == [
        (["x", "2"], 0, 2),
        (["y", "3"], 1, 1),
        (["z", "2"], 2, 0),
    ]
    assert [row.get("answer_class") for row in rows] == [0, 1, None]
    assert ["rollouts" in row for row in rows] == [False, True, False]
    assert rows[0]["probabilities"] == pytest.approx({"0.7": 0.75, "1.3": 0.75})
    assert "probabilities" not in rows[1]


def test_a_model_is_judged_on_samples_and_on_all_listed_solutions() -> None:
    scores = [[0.9, 0.5], [0.8, 0.6], [0.9, 0.9]]
    rows = [row | {"scores": one} for row, one in zip(pool(), scores, strict=True)]
    rows[2]["reward"] = 0.0  # the listed solution with the highest score is wrong
    found = dict(result.accuracies(rows, 0.0, np.random.default_rng(0)))
    assert found["min@1"] == pytest.approx(2 / 3)  # of three candidates two are right
    assert found["exact 1.3 min@4"] == pytest.approx(0.75**4)  # none of four draws is the wrong one
    assert found["weighted vote@1"] == pytest.approx(2 / 3)
    assert found["prod at eta 0@1"] == found["prod@1"]
    assert not any("at eta" in name for name in dict(result.accuracies(rows, None, np.random.default_rng(0))))


def test_exact_rates_take_the_place_of_rollouts() -> None:
    row = solution(["x", "y", "3"], 0.0, rollouts=[[1.0, 0.0], [0.0, 1.0], [0.0]])
    found = with_rates(row, {("x",): 0.625})
    assert found["rates"] == [0.625, 0.5, 0.0]  # the second prefix is not listed
    assert "rollouts" not in found


def test_the_tables_name_the_seeds_and_the_primary_comparisons(tmp_path: Path) -> None:
    values = {"er1": [1.0, 0.5], "er2": [1.0, 1.0], "soft": [0.5, 0.5], "hard": [0.0, 0.5]}
    rows = [model(label, seed, value) for label, value in values.items() for seed in (1, 2)]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [POLICY, *rows]))
    script = PIPELINES / "study_tables.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "results.jsonl"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "8 reward models, seeds 1, 2." in done.stdout
    summary = [json.loads(line) for line in (tmp_path / "summary.jsonl").read_text().splitlines()]
    primary = [row for row in summary if row.get("table") == "Primary comparisons"]
    assert [(row["label"], row["minus"], row["measure"]) for row in primary] == [
        (*pair, measure) for measure in tables.PRIMARY for pair in tables.PAIRS
    ]
    study, found = tables.read_summary(tmp_path / "summary.jsonl")
    assert tables.difference_table(found["Primary comparisons"]) in done.stdout
    assert tables.accuracy_table(study, "min@64") in done.stdout
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        f"study-{name}.svg" for name in ("size", "eta", "n", "calibration")
    }


# ---- The scripts beside it


def test_search_on_the_trees_is_added_to_the_results(tmp_path: Path) -> None:
    right, wrong = ["x", "The answer is: 2"], ["z", "The answer is: 3"]
    listed = [
        {"steps": right, "reward": 1.0, "log_probs": [math.log(0.6), math.log(0.3)], "num_tokens": [1, 1]},
        {"steps": wrong, "reward": 0.0, "log_probs": [math.log(0.2), math.log(0.1)], "num_tokens": [1, 1]},
    ]
    (tmp_path / "trees.jsonl").write_text(json.dumps(TREE | {"solutions": listed}) + "\n")
    scored = [solution(right, 1.0, scores=[0.9, 0.9]), solution(wrong, 0.0, sample=1, scores=[0.9, 0.1])]
    write_rows(tmp_path / "scores-soft-50-4-1.jsonl.gz", scored)
    results = [POLICY, model("soft", 1, [0.5]), model("hard", 1, [0.5]) | {"eta": None}]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in results))
    command = [sys.executable, str(ROOT / "scripts" / "study_search.py"), str(tmp_path)]
    for _ in range(2):  # the second time from what the first one kept
        subprocess.run(command, check=True)
        policy, soft, hard = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
        assert soft["accuracy"]["smc eta 2 weighted vote@16"] == [1.0]
        assert 0.5 < soft["accuracy"]["smc eta 5 draw@16"][0] <= 1
        assert hard["accuracy"] == model("hard", 1, [0.5])["accuracy"]
        assert policy["optimal"]["2"] == pytest.approx(3 * math.exp(2) / (1 + 3 * math.exp(2)))
    assert len((tmp_path / "search.jsonl").read_text().splitlines()) == 1


def test_the_learning_rate_is_chosen_by_the_mean_over_labels(tmp_path: Path) -> None:
    for rate, hard in (("1e-3", [0.5, 1.0]), ("2e-3", [0.0, 1.0])):
        rows = [model("soft", 1, [0.5, 0.5]), model("hard", 1, hard)]
        for row in rows:
            row["accuracy"] |= {f"exact 1.3 {name}": value for name, value in row["accuracy"].items()}
        (tmp_path / f"lr-{rate}").mkdir()
        lines = "".join(json.dumps(row) + "\n" for row in [POLICY, *rows])
        (tmp_path / f"lr-{rate}" / "results.jsonl").write_text(lines)
    found = choices(tmp_path, ("1e-3", "2e-3"))
    assert [(row["lr"], row["mean"]) for row in found] == [(0.001, 62.5), (0.002, 50.0)]
    assert found[0]["soft"] == {"1.3 min@1": 50.0, "1.3 min@16": 50.0, "1.3 min@64": 50.0}


def test_the_cost_is_that_of_the_design() -> None:
    of = design()
    found = {part.does: part.times for part in parts(of, 20)}
    assert found["reward models"] == found["scores"] == 5 * 4 * (6 * 2 + 1)
    assert (found["rollouts"], found["RAFT"]) == (5, 5 * 7)
    assert of["TRAIN"] == "hf://openai/gsm8k:main/train"


@pytest.mark.thorough
def test_the_cost_is_computed_by_dry_runs() -> None:
    assert len(table(problems=2, tiny=True).splitlines()) == 2 + 7 + 1


# ---- The whole


SMALL = {
    "PROBLEMS": "4",
    "CANDIDATES": "4",
    "SIZES": "4 8",
    "SOLUTIONS": "2",
    "KS": "2 exact",
    "LABELS": "er2 orm",
    "SEEDS": "1",
    "REFERENCE": "4",
    "STEPS": "2",
    "BATCH": "4",
    "RAFT": "8 2",
    "RAFT_FLAGS": "--limit 2 -n 2 --iterations 1 --lr 3e-4 --batch-size 2",
    "SCRIPTS": str(ROOT / "scripts"),
    "JOBS": "1",
    "OMP_NUM_THREADS": "1",
}


def start(run: Path, **design: str) -> subprocess.Popen[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | SMALL | design | {"PATH": path}
    command = ["bash", str(PIPELINES / "study.sh"), str(run)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.thorough
@pytest.mark.timeout(3000)
def test_the_study_continues_after_a_kill_and_grows(tmp_path: Path) -> None:
    killed = start(tmp_path, SIZES="4")
    while not list(tmp_path.glob("result-*.json")) and killed.poll() is None:
        time.sleep(0.5)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    (first,) = tmp_path.glob("result-*.json")
    before = first.stat().st_mtime_ns

    done = start(tmp_path)
    said, _ = done.communicate()
    assert done.returncode == 0, said
    assert first.stat().st_mtime_ns == before
    policy, *rows = (json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines())
    assert policy["label"] == "policy"
    er = {("er2", size, k) for size in (4, 8) for k in (2, "exact")}
    found = {(row["label"], row["size"], row["k"]) for row in rows}
    assert found == er | {("orm", 4, "exact"), ("orm", 8, "exact")}
    for row in rows:
        assert all(
            len(values) == 4 and 0 <= min(values) <= max(values) <= 1 for values in row["accuracy"].values()
        )
        assert ("raft" in row["accuracy"]) == ((row["size"], row["k"]) == (8, 2))
        assert ("smc eta 2 draw@16" in row["accuracy"]) == (row["label"] != "orm")
        assert not (tmp_path / "prm-{label}-{size}-{k}-{seed}".format(**row)).exists()
    assert (tmp_path / "summary.jsonl").exists()
