"""The recipes: their commands pass a dry run on small models of the same kind; each file has a page."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from recipe_figures import (
    DRY,
    PAGES,
    RECIPES,
    ROOT,
    TABLE,
    commands,
    dry_runs,
    problem,
    table,
    write_model,
    write_rows,
)

PIPELINES = ROOT / "templates" / "pipelines"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """All models are folders; a name that is asked of the Hub is a mistake."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.thorough
def test_the_commands_of_a_page_pass_a_dry_run(name: str, tmp_path: Path) -> None:
    dry = [figure for figure in dry_runs(name, tmp_path, problems=6, tiny=True)]
    assert [figure.words for figure in dry] == [
        words for words in commands((PAGES / f"{name}.md").read_text()) if words[0] in DRY
    ]
    assert all(figure.plan.get("completions", figure.plan.get("solutions")) for figure in dry)


def test_every_table_of_a_recipe_is_used_by_a_command_on_a_page() -> None:
    used = {
        (words[words.index("--config") + 1], words[0])
        for page in PAGES.glob("*.md")
        for words in commands(page.read_text())
    }
    tables = {
        (path.stem, name) for path in PIPELINES.glob("*.toml") for name in tomllib.loads(path.read_text())
    }
    assert tables <= used


def test_every_page_is_a_recipe_with_figures() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {"index", *RECIPES}
    for name in RECIPES:
        (shown,) = TABLE.findall((PAGES / f"{name}.md").read_text())
        assert "| hours expected |" in shown


@pytest.mark.slow
def test_the_figures_are_those_of_a_dry_run() -> None:
    (shown,) = TABLE.findall((PAGES / "qwen-prm.md").read_text())
    assert shown == table("qwen-prm")


@pytest.mark.slow
def test_a_task_of_a_slurm_array_samples_and_passes_a_dry_run_of_its_rollouts(tmp_path: Path) -> None:
    model = "Qwen/Qwen2.5-Math-7B-Instruct"
    write_model(tmp_path / model, model, tiny=True)
    write_rows(tmp_path / "problems.jsonl", [problem(RECIPES["machines"], index) for index in range(2)])
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MODEL": model,
        "TEMPLATE": "math-chat",
        "SLURM_ARRAY_TASK_ID": "0",
        "SHARDS": "1",
        "ERPRM_SAMPLE_MAX_TOKENS": "4",
        "ERPRM_ROLLOUT_DRY_RUN": "true",
    }
    script = ["bash", str(PIPELINES / "slurm_array.sh"), "problems.jsonl", "run"]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "solutions-0.jsonl").read_text().splitlines()) == 2 * 15
    assert '"weights_gib"' in done.stdout
    assert not (tmp_path / "run" / "rollouts-0.jsonl").exists()
