import json
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.answers.grader import Grader
from erprm_cli.engines.base import Request
from erprm_cli.errors import RowError
from erprm_cli.io.writing import open_journal, open_output
from erprm_cli.policy.finished_prefixes import FinishedPrefixes
from erprm_cli.policy.rollouts import Roller, check_gradable, same_origin
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.policy.templates import load_template
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from tests.scripted import ScriptedEngine

SETTINGS = SamplingSettings("scripted", None, 1.0, 1.0, 200, 0, "tiny")
TINY = load_template("tiny")


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
        roller = Roller(engine, TINY, SETTINGS, options.pop("k", 4), grader, **options)
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


@pytest.mark.slow
def test_hard_completions_are_graded_in_parallel_and_reported_in_order() -> None:
    def say(_: str, index: int) -> str:
        hard = rf"(x + \frac{{1}}{{{2990 + index}!}})!"
        return f"The answer is: {5 if index == 2 else hard}"

    told: list[str] = []
    with Grader(lambda *note: told.append(json.loads(note[2])["prediction"])) as grader:
        roller = Roller(ScriptedEngine(say), TINY, SETTINGS, 4, grader)
        (row,) = roller.roll([solution(0, "one", "two")])
    assert row["rollouts"] == [[0.0, 0.0, 1.0, 0.0], [1.0]]
    assert [text.partition("!")[0][-4:] for text in told] == ["2990", "2991", "2993"]


@pytest.mark.parametrize("name", ["answer", "reward"])
def test_a_solution_without_answer_or_reward_is_refused(name: str) -> None:
    with pytest.raises(RowError, match=f"'{name}'"):
        check_gradable(solution(0, "one") | {name: None})


# A stopped run


class Stop(BaseException):
    pass


def run(path: Path, rows: list[Row], stop_after: int | None = None, **options: Any) -> list[Request]:
    """Write rollouts of `rows` to `path` as the command does, perhaps only in part; return the requests."""
    said = 0

    def say(prompt: str, index: int) -> str:
        nonlocal said
        if said == stop_after:
            raise Stop
        said += 1
        return even_is_right(prompt, index + len(prompt))

    engine, keep_text = ScriptedEngine(say), options.pop("keep_text", False)
    settings = {"seed": 0, "keep_text": keep_text}
    with open_output(str(path), settings, **options) as out, Grader() as grader:
        finished = FinishedPrefixes(keep_text)
        done = out.solutions(finished.add_row)
        missing = [row for row in rows if (row["id"], row["sample"]) not in done]
        with open_journal(out, settings, **options) as journal:
            finished.add_journal(journal)
            for row in Roller(engine, TINY, SETTINGS, 4, grader, keep_text, finished, journal).roll(missing):
                out.write(row)
    return engine.asked


SOLUTIONS = [
    solution(0, *(f"step {number}" for number in range(6))),
    solution(1, *(f"step {number}" for number in range(3)), "another", "end"),
    solution(2, "one", "two", "three"),
]


@pytest.mark.parametrize("keep_text", [False, True])
def test_a_stopped_run_loses_only_the_prefix_in_flight(tmp_path: Path, keep_text: bool) -> None:
    whole = tmp_path / "whole.jsonl"
    asked = run(whole, SOLUTIONS, keep_text=keep_text)
    for stop_after in range(4 * len(asked)):
        path = tmp_path / f"{stop_after}.jsonl"
        with pytest.raises(Stop):
            run(path, SOLUTIONS, stop_after, keep_text=keep_text)
        again = run(path, SOLUTIONS, keep_text=keep_text)
        assert len(again) == len(asked) - stop_after // 4
        assert sorted(path.read_bytes().splitlines()) == sorted(whole.read_bytes().splitlines())
        assert not path.with_name(path.name + ".journal").exists()


def test_a_journal_made_otherwise_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(Stop):
        run(path, SOLUTIONS[:1], 9)
    assert len(run(path, SOLUTIONS[:1], overwrite=True)) == 5
    path.unlink()
    with pytest.raises(Stop):
        run(path, SOLUTIONS[:1], 9)
    assert len(run(path, SOLUTIONS[:1], keep_text=True)) == 5


def test_more_solutions_later_use_the_prefixes_of_rows_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    run(path, SOLUTIONS[:1])
    assert len(run(path, SOLUTIONS[:2])) == 1


def test_a_solution_whose_prefixes_do_not_fit_into_memory_is_a_bad_row() -> None:
    step = "1 + 1 = 2."
    row = {"id": "a", "problem": "p", "answer": "2", "sample": 0, "reward": 1.0}
    for count, told in ((1_000, None), (50_000, "the prefixes of its 50,000 steps have 13,749,725,000")):
        long = row | {"solution": "\n".join([step] * count), "steps": [step] * count}
        if told is None:
            assert check_gradable(long) is long
        else:
            with pytest.raises(RowError, match=told):
                check_gradable(long)


def test_all_that_a_solution_lacks_for_rollouts_is_said_at_once() -> None:
    row = {"id": "a", "problem": "p", "sample": 0, "solution": "a", "steps": ["a"], "answer": ""}
    with pytest.raises(RowError, match=r"'answer' is empty; no 'reward' \(.*; `erprm grade` writes it\)"):
        check_gradable(row)


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"model": "scripted", "template": "tiny"}, ""),
        ({"model": "scripted"}, ""),
        (None, ""),
        ({"model": "other", "template": "tiny"}, "the model other, but is continued with scripted"),
        ({"model": "scripted", "template": "math"}, "the template math, but is continued with tiny"),
    ],
)
def test_solutions_of_another_policy_are_reported_once(
    sampling: Row | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [solution(number, "x") | {"sampling": sampling} for number in range(3)]
    assert list(same_origin(rows, SETTINGS, Reporter("rollout"))) == rows
    err = capsys.readouterr().err
    assert err.count("warning: id 'a' was sampled with") == bool(said) and said in err


@pytest.mark.parametrize("completions", [[["a"]], "ab", {"a": "b"}])
def test_texts_of_an_earlier_output_that_do_not_fit_the_steps_are_a_bad_row(completions: Any) -> None:
    row = solution(0, "one", "two") | {"rollouts": [[1.0], [1.0]], "completions": completions}
    with pytest.raises(RowError, match="'completions' must be one list of strings per step"):
        FinishedPrefixes().add_row(row)


def test_texts_of_an_earlier_run_do_not_stay_beside_other_rollouts() -> None:
    earlier = solution(0, "one", "two") | {"rollouts": [[1.0], [1.0]], "completions": [["x"], [""]]}
    (row,), _ = roll(ScriptedEngine(even_is_right), earlier, k=2)
    assert row["rollouts"] == [[1.0, 0.0], [1.0]] and "completions" not in row
    (kept,), _ = roll(ScriptedEngine(even_is_right), earlier, k=2, keep_text=True)
    assert list(map(len, kept["completions"])) == [2, 1]
