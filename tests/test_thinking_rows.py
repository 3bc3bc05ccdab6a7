"""Rows of a thinking model go through every command, and none loses the reasoning."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from erprm_cli.rows.row import Row
from tests.tiny_models import save_model

Erprm = Callable[..., Result]

REASONING = "\nTom has 2.\n\nTom gets 3.\n"
OF_ANSWER: Row = {
    "id": "a",
    "problem": "Tom has 2 apples?",
    "answer": "5",
    "sample": 0,
    "reasoning": REASONING,
    "solution": "\n\nSo 2 + 3.\nThe answer is: 5",
    "steps": ["So 2 + 3.", "The answer is: 5"],
    "prediction": "5",
    "reward": 1.0,
    "finish_reason": "stop",
}
OF_REASONING = OF_ANSWER | {"sample": 1, "steps_of": "reasoning", "steps": ["Tom has 2.", "Tom gets 3."]}
OPEN = OF_ANSWER | {"sample": 2, "solution": "", "steps": [""], "prediction": None, "reward": 0.0}
ROWS = [OF_ANSWER, OF_REASONING, OPEN | {"finish_reason": "length"}]
TEMPLATE = 'prompt = "Question: {problem}\\n"\nreasoning = "think"\n'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("model") / "model"))


def jsonl(rows: list[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows_of(done: Result) -> list[Row]:
    assert done.exit_code == 0, done.exception
    return sorted(map(json.loads, done.stdout.splitlines()), key=lambda row: row["sample"])


def thinking(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [tuple(row.get(name) for name in ("reasoning", "solution", "steps_of", "steps")) for row in rows]


def test_the_chain_keeps_the_reasoning(erprm: Erprm, model: str, tmp_path: Path) -> None:
    template = tmp_path / "think.toml"
    template.write_text(TEMPLATE)
    flags = ["-q", "-m", model, "-t", template, "-k", 2, "--max-tokens", 3]
    rolled = rows_of(erprm("rollout", *flags, stdin=jsonl(ROWS)))
    # Nothing closes the thought or answers within 3 tokens; the last step has its own reward.
    assert [row["rollouts"] for row in rolled] == [[[0.0] * 2, [1.0]], [[0.0] * 2, [1.0]], [[0.0]]]
    labelled = rows_of(erprm("label", "-q", stdin=jsonl(rolled)))
    scored = rows_of(erprm("score", "-q", "--prm", model, "--prm-format", "er-prm", stdin=jsonl(labelled)))
    graded = rows_of(erprm("grade", "-q", stdin=jsonl(scored)))
    converted = rows_of(erprm("convert", "-q", stdin=jsonl(graded)))
    for rows in (rolled, labelled, scored, graded, converted):
        assert thinking(rows) == thinking(ROWS)
    assert [row["reward"] for row in graded] == [1.0, 1.0, 0.0] and converted == scored
    (chosen,) = rows_of(erprm("bon", "-q", stdin=jsonl(scored)))
    assert chosen["reasoning"] == REASONING


def test_show_shows_all_reasoning_on_request(erprm: Erprm) -> None:
    row = jsonl([OF_ANSWER | {"reasoning": "a\nb\nc\nd\ne"}])
    assert "c\n... 2 more lines of reasoning; --reasoning shows them" in erprm("show", stdin=row).stdout
    assert "c\nd\ne\n" in erprm("show", "--reasoning", stdin=row).stdout


def test_flags_of_sample_are_recorded_and_make_other_outputs(
    erprm: Erprm, model: str, tmp_path: Path
) -> None:
    (tmp_path / "think.toml").write_text(TEMPLATE.replace("Question: ", "") + "chat = true\n")
    problem = jsonl([{"id": "a", "problem": "Tom has 2?", "answer": "5"}])
    out = tmp_path / "out.jsonl"
    words = [
        "sample",
        "-q",
        "-m",
        model,
        "-t",
        tmp_path / "think.toml",
        "-n",
        1,
        "--max-tokens",
        3,
        "-o",
        out,
    ]
    flags = ["--chat-template-kwarg", "enable_thinking=false", "--steps-of", "reasoning"]
    assert erprm(*words, *flags, stdin=problem).exit_code == 0
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row["sampling"]["chat_template_kwargs"] == {"enable_thinking": False}
    assert row["sampling"]["steps_of"] == row["steps_of"] == "reasoning"
    again = erprm(*words, *flags[2:], stdin=problem)
    assert "was made with chat_template_kwargs" in str(again.exception)
    again = erprm(*words, *flags[:2], stdin=problem)
    assert "was made with steps_of reasoning" in str(again.exception)
