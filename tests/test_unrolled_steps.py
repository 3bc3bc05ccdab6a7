"""Steps without rollouts: null in rollouts and labels passes through every command that reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import erprm_cli as erprm_api
from erprm_cli.errors import RowError
from erprm_cli.evaluation.calibration import Calibration, Targets
from erprm_cli.reports import solutions
from erprm_cli.reports.charts import calibration_chart
from erprm_cli.reports.solutions_page import SolutionsPage
from erprm_cli.rows import schema
from erprm_cli.training.config import PrmTrainingConfig
from erprm_cli.training.prm_task import PrmTask
from tests.tiny_models import save_model

Row = dict[str, Any]
Run = Callable[..., Any]

STEPS = ["Tom has 3 apples.", "Tom gets 4 more.", "So Tom has 7.", "The answer is 7."]
SOLUTION: Row = {
    "id": "a",
    "problem": "Tom has 3 apples. Tom gets 4 more apples.",
    "answer": "7",
    "sample": 0,
    "solution": "\n".join(STEPS),
    "steps": STEPS,
    "reward": 1.0,
}
ROLLED = SOLUTION | {"rollouts": [None, [1.0, 0.0, 0.0, 1.0], None, [1.0]]}
LABELS = {"labels": [None, 0.5, None, 1.0], "eta": 0.0, "estimator": "soft"}
BOUNDS = {"label_low": [None, 0.1, None, 1.0], "label_high": [None, 0.9, None, 1.0]}
LABELLED = ROLLED | LABELS | BOUNDS
SCORED = LABELLED | {"scores": [0.9, 0.8, 0.2, 0.95], "prm": "p"}


def line(row: Row) -> str:
    return json.dumps(row) + "\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("model")))


def task(model: str, output: Path, **options: Any) -> PrmTask:
    return PrmTask(PrmTrainingConfig(base=model, output=output, **options))


def test_the_checks_take_null_for_a_step_and_nothing_else() -> None:
    assert schema.check_rollouts(ROLLED) is ROLLED and schema.check_labels(LABELLED) is LABELLED
    for row, told in (
        (ROLLED | {"rollouts": [None, [None], None, [1.0]]}, "contains null, not a number"),
        (LABELLED | {"labels": [None, 2.0, None, 1.0]}, "'labels' contains 2.0, outside"),
        (LABELLED | {"label_low": [0.1]}, "'label_low' has 1 number for 4 steps"),
        (SCORED | {"scores": [None, 0.8, 0.2, 0.9]}, "'scores' contains null, not a number"),
    ):
        check = schema.check_scores if "scores" in told else schema.check_labels if "label" in told else None
        with pytest.raises(RowError, match=told.replace("[", r"\[")):
            (check or schema.check_rollouts)(row)


def test_label_gives_a_step_without_rollouts_no_label(erprm: Run) -> None:
    for eta in ("0", "2", "inf"):
        made = json.loads(erprm("label", "-q", "--eta", eta, "--intervals", stdin=line(ROLLED)).stdout)
        for name in ("labels", "label_low", "label_high"):
            assert [value is None for value in made[name]] == [True, False, True, False]
    (row,) = erprm_api.label([ROLLED], eta=0.0)
    assert row["labels"] == [None, 0.5, None, 1.0]


@pytest.mark.parametrize("target", ["labels", "counts"])
def test_train_learns_nothing_at_a_step_without_a_target(model: str, tmp_path: Path, target: Any) -> None:
    one = task(model, tmp_path / "prm", target=target)
    one.add(LABELLED)
    ids, weights = one.tagger.encode(SOLUTION["problem"], STEPS), {"labels": [1, 1], "counts": [4, 1]}
    (kept,) = examples(one)
    assert kept.positions.tolist() == [ids.tags[1], ids.tags[3]]
    assert (kept.targets.tolist(), kept.weights.tolist()) == ([0.5, 1.0], weights[target])


def examples(one: PrmTask) -> list[Any]:
    """Return the examples that a task has kept."""
    found = one.store.examples("train")
    assert found is not None
    return found.take(range(len(found)))


@pytest.mark.parametrize("target", ["labels", "counts"])
def test_train_refuses_a_row_without_any_target(model: str, tmp_path: Path, target: Any) -> None:
    row = LABELLED | {"labels": [None] * 4, "rollouts": [None] * 4}
    field = {"labels": "labels", "counts": "rollouts"}[target]
    with pytest.raises(RowError, match=f"its '{field}' are all null, so there is nothing to learn"):
        task(model, tmp_path / "prm", target=target).add(row)


def test_an_outcome_reward_model_needs_the_last_label(model: str, tmp_path: Path) -> None:
    row = LABELLED | {"labels": [0.5, 0.5, 0.5, None]}
    with pytest.raises(RowError, match="the last of its 'labels' is null; --outcome-only learns no other"):
        task(model, tmp_path / "prm", outcome_only=True).add(row)


def test_a_solution_cut_before_its_first_label_is_too_long(model: str, tmp_path: Path) -> None:
    tags = task(model, tmp_path / "other").tagger.encode(SOLUTION["problem"], STEPS).tags
    one = task(model, tmp_path / "prm", truncate=True, max_length=int(tags[1]) + 1)
    one.add(LABELLED | {"labels": [None, None, None, 1.0]})
    assert one.stats["too_long"] == 1


@pytest.mark.slow
def test_train_and_score_run_on_such_rows(erprm: Run, model: str, tmp_path: Path) -> None:
    lines = "".join(line(LABELLED | {"sample": number}) for number in range(4))
    flags = (
        "--base",
        model,
        "-o",
        tmp_path / "prm",
        "--lr",
        "1e-3",
        "--batch-size",
        "2",
        "--target",
        "counts",
    )
    result = erprm("train", "-q", *flags, stdin=lines)
    assert result.exit_code == 0, result.output
    scored = erprm("score", "-q", "--prm", tmp_path / "prm", stdin=line(LABELLED))
    row = json.loads(scored.stdout)
    assert len(row["scores"]) == 4 and row["labels"] == LABELLED["labels"]
    assert row["rollouts"] == LABELLED["rollouts"]


@pytest.mark.parametrize("eta", [None, 2.0])
@pytest.mark.parametrize("against", ["labels", "rates"])
def test_calibrate_leaves_steps_without_a_target_out(against: str, eta: float | None) -> None:
    targets = Targets(against, eta)
    found = Calibration(targets, ["min"])
    found.add(targets.check_scored(SCORED))
    steps, whole = found.results()
    assert (steps.count, whole.count) == (2, 1)
    assert whole.brier == pytest.approx((0.2 - 1) ** 2)  # the score of a solution has all its steps


def test_calibrate_uses_the_intervals_of_labels() -> None:
    targets = Targets()
    found = Calibration(targets, [])
    found.add(targets.check_scored(SCORED))
    found.add(targets.check_scored(SCORED | {"sample": 1, "scores": [0.9, 0.95, 0.2, 0.97]}))
    (steps,) = found.results()
    assert steps.in_interval == 0.5  # 0.8 is in [0.1, 0.9], 0.95 is not; the outcome is certain
    ends = [(part.target_low, part.target_high) for part in steps.bins]
    assert ends == [(0.1, 0.9), (pytest.approx(0.7), pytest.approx(0.9667, abs=1e-3))]
    assert calibration_chart([steps]).curves[0].intervals == ends
    assert steps.row("p")["in_interval"] == 0.5


def test_calibrate_tells_how_many_scores_are_in_the_intervals(erprm: Run) -> None:
    result = erprm("calibrate", stdin=line(SCORED))
    assert "100.0% of the scores are within the interval of their label" in result.stderr


def test_show_prints_a_dash_and_the_intervals() -> None:
    text = solutions.Renderer(100).render(solutions.check(SCORED))
    table = text.splitlines()[3:]
    first, second = (next(one for one in table if step in one) for step in STEPS[:2])
    assert first.split()[:4] == ["1", "-", "-", "0.90"]
    assert second.split()[:6] == ["2", "0.50", "[0.10,", "0.90]", "2/4", "0.80"]
    assert solutions.first_error(SCORED | {"labels": [None, 0.0, None, 0.0]}) == 1


def test_the_page_of_show_has_null_and_the_intervals() -> None:
    page = SolutionsPage("-")
    text = b"".join(page.parts([page.check(SCORED)])).decode()
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    (row,) = data["rows"]
    assert row["values"][0] == [None, 0.5, None, 1.0] and row["values"][1] == [None, 0.5, None, 1.0]
    assert row["intervals"] == [None, [0.1, 0.9], None, [1.0, 1.0]]
    assert row["counts"] == ["-", "2/4", "-", "1/1"]


@pytest.mark.parametrize("target", ["er-prm", "math-shepherd", "trl", "rlhflow"])
def test_convert_rejects_what_a_format_cannot_express(erprm: Run, target: str) -> None:
    result = erprm("convert", "--to", target, "--threshold", "0.5", stdin=line(LABELLED))
    told = f"'labels[0]' (counted from 0) is null, and {target} needs a label for every step"
    assert result.exit_code == 1 and told in str(result.exception)
    whole = line(LABELLED | {"labels": [0.5, 0.5, 0.5, 1.0]})
    assert erprm("convert", "-q", "--to", target, "--threshold", "0.5", stdin=whole).exit_code == 0


def test_convert_to_our_own_rows_keeps_null(erprm: Run) -> None:
    made = json.loads(erprm("convert", "-q", stdin=line(LABELLED)).stdout)
    assert made["labels"] == LABELLED["labels"] and made["rollouts"] == LABELLED["rollouts"]


def test_bon_and_grade_pass_null_through(erprm: Run) -> None:
    for command in ("bon", "grade"):
        row = json.loads(erprm(command, "-q", stdin=line(SCORED)).stdout.splitlines()[0])
        assert row["labels"] == LABELLED["labels"] and row["rollouts"] == LABELLED["rollouts"]
