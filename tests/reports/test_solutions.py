"""Rows of each stage are shown safely, within the width, and without colours unless wanted."""

import re
import time
from typing import Any

import pytest
from rich.cells import cell_len

from erprm_cli.errors import RowError
from erprm_cli.reports.solutions import Renderer, check, marks

Row = dict[str, Any]

PROBLEM: Row = {"id": "p1", "problem": "How many?", "answer": "7"}
SOLUTION = PROBLEM | {
    "sample": 3,
    "solution": "Step 1: a.\nStep 2: b.\nThe answer is: 8",
    "steps": ["Step 1: a.", "Step 2: b.", "The answer is: 8"],
    "prediction": "8",
    "reward": 0.0,
    "finish_reason": "stop",
}
ROLLOUTS = SOLUTION | {"rollouts": [[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0]]}
LABELS = ROLLOUTS | {"labels": [0.717, 0.0, 0.0], "eta": 2.0, "estimator": "er"}
SCORES = LABELS | {"scores": [0.4, 0.6, 0.05], "prm": "runs/prm"}
CHOICE = SCORES | {"score": 0.05, "n": 8, "aggregate": "min", "correct": False}


def lines(row: Row, **options: Any) -> list[str]:
    return Renderer(**options).render(check(row)).splitlines()


def test_every_stage_adds_what_it_knows() -> None:
    assert lines(PROBLEM, width=40) == ["── p1 " + "─" * 34, "How many?", "", "gold 7", ""]
    assert lines(SOLUTION, width=40) == [
        "── p1, sample 3 " + "─" * 24,
        "How many?",
        "",
        "  1  Step 1: a.",
        "  2  Step 2: b.",
        "  3  The answer is: 8",
        "",
        "gold 7, prediction 8, wrong",
        "",
    ]
    assert lines(CHOICE, width=100)[3:] == [
        "     label  k/K  score",
        "? 1   0.72  2/4   0.40  Step 1: a.",
        "✗ 2   0.00  0/4   0.60  Step 2: b.",
        "  3   0.00  0/1   0.05  The answer is: 8",
        "",
        "gold 7, prediction 8, wrong, best of 8 by min: 0.05, PRM runs/prm, eta 2.0, estimator er",
        "",
    ]


def test_rewards_that_are_not_0_or_1_show_their_mean() -> None:
    row = SOLUTION | {"rollouts": [[0.5, -1.0], [0.25, 0.5], [0.0]]}
    assert [line.split()[-4] for line in lines(row)[4:6]] == ["-0.25", "0.38"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (SOLUTION, {}),
        (ROLLOUTS, {1: "✗"}),
        (SOLUTION | {"labels": [0.2, 0.1, 1.0]}, {}),
        (SOLUTION | {"scores": [0.6, 0.4, 0.9]}, {1: "?"}),
        (SOLUTION | {"scores": [0.6, 0.4, 0.9], "label": 2}, {1: "?", 2: "✗"}),
        (SOLUTION | {"scores": [0.6, 0.4, 0.9], "label": 1}, {1: "✗"}),
        (ROLLOUTS | {"label": -1}, {}),  # a person's word goes before that of rollouts
    ],
)
def test_the_first_error_is_marked(row: Row, expected: dict[int, str]) -> None:
    assert marks(row) == expected


def test_rows_of_processbench_need_no_sample() -> None:
    row = {"id": "gsm8k-4", "generator": "Qwen2", "problem": "p", "steps": ["a", "b"], "label": 1}
    assert lines(row | {"final_answer_correct": True}, width=30) == [
        "── gsm8k-4, Qwen2 ────────────",
        "p",
        "",
        "  1  a",
        "✗ 2  b",
        "",
        "right",
        "",
    ]


def test_colours_go_from_red_to_green_and_nothing_else_changes() -> None:
    coloured = Renderer(colour=True).render(SCORES)
    assert "\x1b[32m" not in coloured.splitlines()[5] and "\x1b[31m" in coloured.splitlines()[5]
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == Renderer().render(SCORES)
    assert "\x1b" not in Renderer().render(SCORES)


def test_text_of_a_model_cannot_reach_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;title\x07\u202eabc\x00 [b]x[/b]"
    row = PROBLEM | {"id": evil, "problem": evil, "answer": evil, "prm": evil} | {"scores": [0.1]}
    row |= {"sample": 0, "solution": evil, "steps": [evil], "prediction": evil}
    shown = Renderer().render(check(row))
    assert not set(shown) & set("\x1b\x07\x00\u202e")
    assert "abc [b]x[/b]" in shown


@pytest.mark.parametrize("width", [40, 60, 100])
def test_long_steps_are_wrapped_under_their_beginning(width: int) -> None:
    step = "word " * 60 + "\n  - item one\n  - item two"
    row = PROBLEM | {"sample": 0, "solution": step, "steps": [step], "scores": [0.9]}
    shown = lines(row, width=width)[4:-3]
    assert all(len(line) <= width for line in shown)
    assert all(line.startswith(" " * 12) for line in shown[1:])
    assert "".join(shown).split()[2:] == step.split()


def test_wide_letters_take_two_columns() -> None:
    step = "第一步：小红有三个苹果，又买了五个，所以一共有八个苹果。" * 4
    row = PROBLEM | {"sample": 0, "solution": step, "steps": [step], "scores": [0.9]}
    shown = lines(row, width=40)
    assert max(map(cell_len, shown)) == 40
    assert "".join(shown).replace(" ", "").endswith(f"0.90{step}gold7")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scores": [0.5]}, "'scores' has 1 numbers for 3 steps"),
        ({"scores": [0.5, None, 1]}, "'scores' contains null"),
        ({"rollouts": [[1.0]]}, "'rollouts' has 1 list for 3 steps"),
        ({"steps": ["other"]}, "is not in 'solution' after the step before it"),
        ({"problem": None}, r"no 'problem' \(the question\)"),
    ],
)
def test_an_invalid_row_is_refused_with_the_reason(change: Row, told: str) -> None:
    with pytest.raises(RowError, match=told):
        check(SOLUTION | change)


@pytest.mark.parametrize("steps", [["a b"] * 1_000_000, ["word " * 20_000_000, "end"]], ids=["many", "long"])
def test_a_huge_row_is_shown_a_page_at_a_time(steps: list[str]) -> None:
    row = check({"problem": "p", "steps": steps, "scores": [0.5] * len(steps)})
    begin = time.process_time()
    pieces = Renderer().pieces(row)
    shown = "".join(next(pieces) for _ in range(4))
    assert "   0.50  " in shown and steps[0][:4] in shown
    assert time.process_time() - begin < 20


def test_pages_are_one_table() -> None:
    steps = [f"step {number} " + "x" * (number % 50) for number in range(450)]
    row = PROBLEM | {"steps": steps, "scores": [0.5] * 450, "rollouts": [[1.0]] * 449 + [[0.25, 0.5]]}
    shown = [line for line in lines(row, width=100) if "step " in line]
    assert [int(line.split("step ")[1].split()[0]) for line in shown] == list(range(450))
    assert len({line.index("step") for line in shown}) == 1


THOUGHT = SOLUTION | {"reasoning": "\nSo a.\n\nThen [/b]\x1b[0m.\n\nOr c?\nNo.\n"}


def test_reasoning_comes_before_the_steps_and_is_shortened_unless_wanted() -> None:
    before = ["So a.", "", "Then [/b]."]
    assert lines(THOUGHT)[3:8] == [*before, "... 3 more lines of reasoning; --reasoning shows them", ""]
    assert lines(THOUGHT, all_reasoning=True)[3:10] == [*before, "", "Or c?", "No.", ""]
    assert lines(THOUGHT | {"reasoning": "So a."})[3:6] == ["So a.", "", "  1  Step 1: a."]
    assert "\x1b[2mSo a." in Renderer(colour=True).render(check(THOUGHT))
    for nothing in (None, "", "\n\n"):
        assert lines(THOUGHT | {"reasoning": nothing}) == lines(SOLUTION)


def test_the_answer_comes_after_the_steps_of_the_reasoning() -> None:
    row = THOUGHT | {"steps_of": "reasoning", "steps": ["So a.", "No."], "solution": "\n\nThe answer is: 8\n"}
    assert lines(row)[2:] == [
        "",
        "  1  So a.",
        "  2  No.",
        "",
        "The answer is: 8",
        "",
        "gold 7, prediction 8, wrong",
        "",
    ]
    unfinished = row | {"solution": "", "prediction": None, "finish_reason": "length"}
    assert lines(unfinished)[4:] == ["  2  No.", "", "gold 7, wrong, cut off", ""]
