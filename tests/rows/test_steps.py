import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.rows.steps import prefixes, split_steps, step_starts

BLANK_LINE = r"\n\s*\n"
PROCESSBENCH = (
    Path(__file__).parents[1] / "data" / "processbench_rows.jsonl"
)  # QwenLM/ProcessBench, Apache-2.0
REAL = [
    [step.strip() for step in json.loads(line)["steps"]]  # a few end in a space
    for line in PROCESSBENCH.read_text(encoding="utf-8").splitlines()
]

# A step as a model may write it: no blank line within, no space around.
step = st.text(alphabet="ab .=1ки\n\\$", min_size=1, max_size=12).filter(
    lambda text: text == text.strip() and "\n\n" not in text.replace(" ", "")
)


@pytest.mark.parametrize("steps", REAL, ids=range(len(REAL)))
def test_real_solutions_come_apart_as_they_were_joined(steps: list[str]) -> None:
    solution = "\n\n".join(steps)
    assert split_steps(solution, BLANK_LINE) == steps
    assert_prefixes_fit(solution, steps)


@given(st.lists(step, min_size=1, max_size=8), st.sampled_from(["\n\n", "\n \n", "\n\n\n"]))
def test_any_steps_come_apart_as_they_were_joined(steps: list[str], gap: str) -> None:
    solution = gap.join(steps)
    assert split_steps(solution, BLANK_LINE) == steps
    assert_prefixes_fit(solution, steps)


def assert_prefixes_fit(solution: str, steps: list[str]) -> None:
    """A prefix ends where the next step begins, and what it adds to the one before is its step and a gap."""
    starts = step_starts(solution, steps)
    assert [solution[start : start + len(step)] for start, step in zip(starts, steps, strict=True)] == steps
    ends = [*prefixes(solution, steps), solution]
    assert len(ends) == len(steps)
    begin = 0
    for end, step in zip(ends, steps, strict=True):
        assert solution.startswith(end)
        assert end[begin:].strip() == step
        begin = len(end)


@given(st.text(alphabet="ab\n 1", max_size=60), st.sampled_from([r"\n+", BLANK_LINE, r"(\n)+", "(?=1)"]))
def test_steps_are_trimmed_and_stand_in_the_solution_in_order(solution: str, step_break: str) -> None:
    steps = split_steps(solution, step_break)
    assert steps == [""] or all(step and step == step.strip() for step in steps)
    assert "".join("".join(steps).split()) == "".join(solution.split())
    assert step_starts(solution, steps) == sorted(step_starts(solution, steps))


def test_a_repeated_step_is_found_where_it_is_repeated() -> None:
    assert step_starts("x\n\nx\n\nx", ["x", "x", "x"]) == [0, 3, 6]


def test_a_group_in_the_rule_is_no_step() -> None:
    assert split_steps("a\nStep 2: b", r"\n(Step \d+: )?") == ["a", "b"]


def test_a_solution_of_blanks_has_one_empty_step() -> None:
    assert split_steps(" \n\n ", BLANK_LINE) == [""]
    assert prefixes("", []) == []


def test_a_step_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError):
        step_starts("a b", ["b", "a"])
