"""Tables for papers: the same cells in Markdown and LaTeX, all digits in CSV, names that are only text."""

import csv
import io

import pytest

from erprm_cli.errors import UsageError
from erprm_cli.reports.paper_tables import check_table, csv_text, latex, markdown
from erprm_cli.reports.tables import Grid, calibration_grid, training_grid
from tests.reports.test_tables import CALIBRATION

GRID = Grid([["", "PRM", "", "95 %"], ["best of n", "a - b", "", "-0.4 to +2.4"]], names=2)


def test_empty_columns_are_left_out_and_names_align_left() -> None:
    assert markdown(GRID).splitlines() == [
        "|  | PRM | 95 % |",
        "|:---|:---|---:|",
        "| best of n | a - b | -0.4 to +2.4 |",
    ]
    assert latex(GRID).splitlines()[0] == r"\begin{tabular}{llr}"
    assert latex(GRID).splitlines()[2:5] == [
        r" & PRM & 95 \% \\",
        r"\midrule",
        r"best of n & a - b & $-$0.4 to +2.4 \\",
    ]


@pytest.mark.parametrize(
    ("name", "in_markdown", "in_latex"),
    [
        ("a_b*c|d", r"a\_b\*c\|d", r"a\_b*c\textbar{}d"),
        (r"\input{x} $y$ 5% #1 ~^&", r"\\input{x} $y$ 5% #1 ~^&", None),
        ("<script>`[x](y)", r"\<script>\`\[x\](y)", r"\textless{}script\textgreater{}`[x](y)"),
        ("two\nlines\t\x1b[31m\u202e", "two lines", "two lines"),
    ],
)
def test_a_name_is_text(name: str, in_markdown: str, in_latex: str | None) -> None:
    grid = Grid([["PRM"], [name]], names=1)
    assert markdown(grid).splitlines()[2] == f"| {in_markdown} |"
    if in_latex is None:
        in_latex = r"\textbackslash{}input\{x\} \$y\$ 5\% \#1 \textasciitilde{}\textasciicircum{}\&"
    assert latex(grid).splitlines()[4] == rf"{in_latex} \\"


def test_csv_has_all_digits_and_every_field_that_is_one_value() -> None:
    text = csv_text([CALIBRATION.row("a,b"), {"of": "steps", "more": True}])
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["prm"], float(first["brier"]), first["auc"], first["more"]) == ("a,b", 0.0625, "", "")
    assert "bins" not in first and second["more"] == "True"


def test_calibration_has_a_line_per_result() -> None:
    heading, _, line = markdown(calibration_grid([CALIBRATION])).splitlines()
    assert heading == "|  | count | problems | Brier | 95 % | calibration error | AUC |"
    assert line == "| steps against rates | 2 | 1 | 0.0625 | 0.0500 to 0.0750 | 0.250 | - |"


def test_training_has_a_line_per_validation_and_the_last_step() -> None:
    log = [{"step": step, "epoch": step / 4, "loss": 1 / step, "eval_loss": None} for step in (1, 2, 3, 4)]
    log[1]["eval_loss"] = 0.75
    assert training_grid(log).lines[1:] == [
        ["2", "0.5", "0.5000", "0.7500", "", "", ""],
        ["4", "1", "0.2500", "", "", "", ""],
    ]


def test_other_formats_are_refused() -> None:
    with pytest.raises(UsageError, match=r"tables are written as \.md, \.tex, \.csv"):
        check_table("table.xlsx")
