from typing import Any

import pytest

from erprm_cli.answers import Grader
from erprm_cli.errors import RowError
from erprm_cli.jsonl import Row
from erprm_cli.policy_templates import policy_template
from erprm_cli.rollouts import Roller, gradable
from erprm_cli.sampling import Drawn
from tests.scripted import ScriptedEngine

DRAWN = Drawn("scripted", None, 1.0, 1.0, 200, 0, "tiny")
TINY = policy_template("tiny")


def solution(sample: int, *steps: str, reward: float = 1.0) -> Row:
    return {
        "id": "a",
        "problem": "p",
        "answer": "5",
        "sample": sample,
        "solution": "\n".join(steps),
        "steps": list(steps),
        "reward": reward,
    }


def roll(engine: ScriptedEngine, *rows: Row, **options: Any) -> tuple[list[Row], Roller]:
    with Grader() as grader:
        roller = Roller(engine, TINY, DRAWN, options.pop("k", 4), grader, **options)
        return list(roller.roll(rows)), roller


def even_is_right(_: str, index: int) -> str:
    return "The answer is: 5" if index % 2 == 0 else "The answer is: 6"


def test_every_proper_prefix_has_k_rewards_and_the_last_step_its_own() -> None:
    (row,), _ = roll(ScriptedEngine(even_is_right), solution(0, "one", "two", "The answer is: 5"))
    assert row["rollouts"] == [[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0], [1.0]]


def test_a_completion_continues_the_exact_text() -> None:
    engine = ScriptedEngine(even_is_right)
    roll(engine, solution(0, "one", "two", "three"))
    assert [request.prompt for request in engine.asked] == [
        "Question: p\nAnswer:\none\n",
        "Question: p\nAnswer:\none\ntwo\n",
    ]


def test_a_shared_prefix_is_completed_once() -> None:
    engine = ScriptedEngine(even_is_right)
    rows, roller = roll(engine, solution(0, "one", "two", "x"), solution(1, "one", "three", "y", reward=0.0))
    assert len(engine.asked) == 3
    assert roller.tally.shared_prefixes == 1
    assert rows[0]["rollouts"][0] == rows[1]["rollouts"][0]
    assert [row["rollouts"][-1] for row in rows] == [[1.0], [0.0]]


def test_a_solution_of_one_step_needs_no_completion() -> None:
    engine = ScriptedEngine(even_is_right)
    rows, _ = roll(engine, solution(0, "The answer is: 5"))
    assert (rows[0]["rollouts"], engine.asked) == ([[1.0]], [])


def test_an_unfinished_completion_counts_as_wrong_and_is_counted() -> None:
    engine = ScriptedEngine(lambda *_: "The answer is: 5\n" + "x" * 300)
    (row,), roller = roll(engine, solution(0, "one", "two"))
    assert row["rollouts"] == [[0.0] * 4, [1.0]]
    assert roller.tally.unfinished == 4


def test_texts_are_kept_when_asked_for() -> None:
    (row,), _ = roll(ScriptedEngine(even_is_right), solution(0, "one", "two"), keep_text=True, k=2)
    assert row["completions"] == [["The answer is: 5", "The answer is: 6"], [""]]


@pytest.mark.parametrize("name", ["answer", "reward"])
def test_what_cannot_be_graded_is_refused(name: str) -> None:
    with pytest.raises(RowError, match=f"'{name}'"):
        gradable(solution(0, "one") | {name: None})
