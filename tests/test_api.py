"""The Python API gives what the commands give."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import erprm_cli
from tests.torture import rows

Run = Callable[..., Any]
REWARDS = {"a": [[1.0, 0.0, 0.0, 0.0], [1.0]], "b": [[0.0, 0.0], [0.0]]}


def rollouts() -> list[dict[str, Any]]:
    return [
        {"id": id_, "problem": "p", "sample": 0, "solution": "x\ny", "steps": ["x", "y"], "rollouts": lists}
        for id_, lists in REWARDS.items()
    ]


def candidates() -> list[dict[str, Any]]:
    """Two problems with four scored candidates each; the best by min is right for the first problem only."""
    scores = {
        "a": [[0.9, 0.8], [0.7, 0.9], [0.2, 0.2], [0.1, 0.9]],
        "b": [[0.9, 0.1], [0.3, 0.4], [0.2, 0.9], [0.0, 1.0]],
    }
    rewards = {"a": [1.0, 0.0, 0.0, 1.0], "b": [1.0, 0.0, 1.0, 0.0]}
    return [
        {
            **{"id": id_, "problem": "p", "sample": sample, "solution": "x\ny", "steps": ["x", "y"]},
            **{"prediction": "5" if rewards[id_][sample] else "6", "reward": rewards[id_][sample]},
            **{"scores": scores[id_][sample], "prm": "demo"},
        }
        for id_ in scores
        for sample in range(4)
    ]


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, erprm_cli; assert 'numpy' not in sys.modules and 'erprm_cli.api' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_documented_and_typed() -> None:
    for name in erprm_cli.__all__:
        value = getattr(erprm_cli, name)
        assert name in dir(erprm_cli)
        assert name == "Row" or value.__doc__
        if inspect.isfunction(value):
            assert inspect.signature(value).return_annotation is not inspect.Signature.empty
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        erprm_cli.nothing  # noqa: B018


@pytest.mark.parametrize("intervals", [False, True])
@pytest.mark.parametrize("eta", [0.0, 1.0, -2.0, float("inf")])
def test_labels_are_those_of_the_command(erprm: Run, eta: float, intervals: bool) -> None:
    source = [*rollouts(), rollouts()[1] | {"id": "c", "rollouts": [None, [0.0]]}]  # a step without rollouts
    lines = "".join(json.dumps(row) + "\n" for row in source)
    done = erprm("label", "--eta", eta, *["--intervals"] * intervals, stdin=lines)
    labelled = list(erprm_cli.label(source, eta, intervals=intervals))
    assert labelled == [json.loads(line) for line in done.stdout.splitlines()]
    assert all(("label_low" in row and "label_high" in row) is intervals for row in labelled)


def test_choices_and_results_are_those_of_the_command(erprm: Run, tmp_path: Path) -> None:
    source = rows.write(tmp_path / "in.jsonl", candidates())
    done = erprm("bon", source, "-o", tmp_path / "chosen.jsonl", "--report", tmp_path / "report.jsonl")
    assert done.exit_code == 0
    chosen = erprm_cli.choose(candidates())
    assert chosen == list(erprm_cli.read_rows(tmp_path / "chosen.jsonl"))
    assert [row["sample"] for row in chosen] == [0, 1]
    assert [row["correct"] for row in chosen] == [True, False]
    assert erprm_cli.best_of_n(candidates()) == list(erprm_cli.read_rows(tmp_path / "report.jsonl"))


def test_processbench_is_that_of_the_command(erprm: Run, tmp_path: Path) -> None:
    judged = [
        {"problem": "p", "steps": ["x", "y"], "label": label, "scores": scores, "split": "gsm8k"}
        for label, scores in [(-1, [0.9, 0.8]), (0, [0.2, 0.9]), (1, [0.9, 0.7])]
    ]
    done = erprm("processbench", rows.write(tmp_path / "in.jsonl", judged))
    assert erprm_cli.processbench(judged) == [json.loads(line) for line in done.stdout.splitlines()]


def test_rows_of_others_are_converted_and_shipped_ones_read() -> None:
    (problem,) = erprm_cli.read_rows("tiny:test", limit=1)
    assert {"id", "problem", "answer"} <= problem.keys()


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"])
def test_what_is_written_is_read_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert erprm_cli.write_rows(path, iter(rollouts())) == 2
    assert list(erprm_cli.read_rows(path)) == rollouts()
    with pytest.raises(erprm_cli.UserError, match="exists; overwrite=True replaces it"):
        erprm_cli.write_rows(path, [])
    assert list(erprm_cli.read_rows(path)) == rollouts()
    assert erprm_cli.write_rows(path, [], overwrite=True) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        erprm_cli.write_rows(tmp_path / "rows.jsonl", ({"n": 1 // n} for n in (1, 0)))
    assert list(tmp_path.iterdir()) == []


def test_bad_rows_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(erprm_cli.RowError, match="rollouts"):
        list(erprm_cli.label([{"id": "a"}]))
    with pytest.raises(erprm_cli.RowError, match="other than 0 and 1"):
        list(erprm_cli.label([rollouts()[0] | {"rollouts": [[0.5], [1.0]]}], intervals=True))
    with pytest.raises(erprm_cli.RowError, match="scores"):
        erprm_cli.processbench([{"problem": "p", "steps": ["x"], "label": -1}])
    with pytest.raises(erprm_cli.UserError, match=r"none\.jsonl"):
        list(erprm_cli.read_rows(tmp_path / "none.jsonl"))


def test_a_prm_scores_problems_and_steps() -> None:
    prm = erprm_cli.load_prm("tiny", prm_format="er-prm")
    (row,) = prm.score([{"problem": "Tom has 2 coins.", "steps": ["He has 2.", "The answer is: 2"]}])
    assert len(row["scores"]) == 2 and all(0 <= score <= 1 for score in row["scores"])


@pytest.mark.slow
def test_the_notebook_runs_to_its_end(tmp_path: Path) -> None:
    """Run the cells in turn; a line that begins with ! is a command of the shell."""
    notebook = json.loads((Path(__file__).parents[1] / "docs" / "labels.ipynb").read_text())
    source = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    program = re.sub(
        r"^!(.*)$", lambda line: f"import os; assert os.system({line[1]!r}) == 0", source, flags=re.M
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "of 8 choices are right" in done.stdout and "best of n" in done.stdout
