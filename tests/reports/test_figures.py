"""--plot and --table mean the same in every command that has results."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from erprm_cli.errors import UsageError
from tests.tiny_models import save_model, solution_rows

Erprm = Callable[..., Result]

JUDGED = {"prediction": "7", "prm": "a_b"}
SCORED = [
    row | JUDGED | {"scores": [place / 8] * len(row["steps"]), "reward": float(place % 2)}
    for place, row in enumerate(solution_rows(8, labels=True))
]
ROWS: dict[str, list[dict[str, Any]]] = {
    "bon": [  # two problems with four candidates each
        row | {"id": problem, "problem": problem, "answer": "7", "sample": sample}
        for row, (problem, sample) in zip(SCORED, product("pq", range(4)), strict=True)
    ],
    "calibrate": [row | {"eta": 1.0, "estimator": "er"} for row in SCORED],
    "processbench": [row | {"label": place % 2 - 1} for place, row in enumerate(SCORED)],
    "train": solution_rows(8, labels=True),
}
COMMANDS = ["bon", "calibrate", "processbench", pytest.param("train", marks=pytest.mark.slow)]
BEGINS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
HEADINGS = {"bon": "n=4", "calibrate": "Brier", "processbench": "F1", "train": "loss"}
FIELDS = {"bon": "method", "calibrate": "auc_low", "processbench": "f1_low", "train": "tokens_per_s"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("base")))


@pytest.fixture
def run(erprm: Erprm, base: str, tmp_path: Path) -> Callable[..., Result]:
    def run(command: str, *flags: object) -> Result:
        training = ("--base", base, "-o", tmp_path / "prm", "--lr", "1e-3", "--batch-size", 2, "--epochs", 2)
        more = (*training, "--overwrite") if command == "train" else ()
        text = "".join(json.dumps(row) + "\n" for row in ROWS[command])
        return erprm(command, *flags, *more, stdin=text)

    return run


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")
def test_plots_and_tables_are_files_beside_the_rows(
    command: str, run: Callable[..., Result], tmp_path: Path
) -> None:
    rows = run(command, "-q").stdout
    for plot, table in ((".png", ".md"), (".svg", ".tex"), (".pdf", ".csv")):
        result = run(command, "-q", "--plot", tmp_path / f"made{plot}", "--table", tmp_path / f"made{table}")
        assert result.exit_code == 0 and result.stderr == "", result.output
        assert len(result.stdout.splitlines()) == len(rows.splitlines())
        assert (tmp_path / f"made{plot}").read_bytes().startswith(BEGINS[plot])
    markdown, latex, csv = ((tmp_path / f"made{suffix}").read_text() for suffix in (".md", ".tex", ".csv"))
    note, _, heading = markdown.splitlines()[:3]
    assert note == "<!-- made by erprm -->" and HEADINGS[command] in heading
    note, _, begin = latex.splitlines()[:3]
    assert note.startswith("% made by erprm") and begin.startswith(r"\begin{tabular}")
    assert HEADINGS[command] in latex
    assert FIELDS[command] in csv.splitlines()[0].split(",") and len(csv.splitlines()) >= 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_plot_can_be_drawn_in_the_terminal(command: str, run: Callable[..., Result]) -> None:
    result = run(command, "--plot", "-")
    assert result.exit_code == 0 and "-" * 64 in result.stderr and "\n  a  " in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("flag", "known"), [("--plot", ".png, .svg, .pdf"), ("--table", ".md, .tex, .csv")])
def test_other_formats_are_refused_before_the_work(
    command: str, flag: str, known: str, run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run(command, flag, "made.docx")
    assert isinstance(result.exception, UsageError) and known in str(result.exception)
    assert result.stdout == "" and not list(tmp_path.iterdir())
