from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from erprm_cli.answers.grader import Grader
from erprm_cli.engines.base import Completion, Failure, Request, SamplingParams
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import EngineError
from erprm_cli.io.writing import open_output
from erprm_cli.policy.rollouts import Roller
from erprm_cli.policy.sampling import SamplingSettings, sample_solutions, sample_to
from erprm_cli.policy.templates import load_template
from erprm_cli.terminal.reporter import Reporter
from tests.scripted import ScriptedEngine
from tests.tiny_models import TEMPLATE, make_tokenizer

SETTINGS = SamplingSettings("scripted", None, 1.0, 1.0, 200, 0, "tiny")
TINY = load_template("tiny")
PROBLEM = {"id": "a", "problem": "Tom has 2 + 3 coins.", "answer": "5", "level": 7}
RIGHT = "Step 1: 2 + 3 = 5.\nThe answer is: 5"


def test_a_solution_row_holds_the_problem_and_what_was_made_of_it() -> None:
    with Grader() as grader:
        rows = list(sample_solutions([PROBLEM], ScriptedEngine(lambda *_: RIGHT), TINY, SETTINGS, 1, grader))
    (row,) = rows
    assert row.items() >= PROBLEM.items()
    assert row["solution"] == RIGHT
    assert row["steps"] == ["Step 1: 2 + 3 = 5.", "The answer is: 5"]
    assert (row["sample"], row["prediction"], row["reward"], row["finish_reason"]) == (0, "5", 1.0, "stop")
    assert row["sampling"]["seed"] == 0


def test_an_unfinished_solution_is_wrong_even_if_it_names_the_answer() -> None:
    engine = ScriptedEngine(lambda *_: RIGHT + "\n" + "and so on" * 40)
    with Grader() as grader:
        (row,) = sample_solutions([PROBLEM], engine, TINY, SETTINGS, 1, grader)
    assert (row["finish_reason"], row["prediction"], row["reward"]) == ("length", "5", 0.0)


def test_without_a_gold_answer_there_is_no_reward() -> None:
    with Grader() as grader:
        (row,) = sample_solutions(
            [PROBLEM | {"answer": None}], ScriptedEngine(lambda *_: RIGHT), TINY, SETTINGS, 1, grader
        )
    assert row["reward"] is None


def test_only_missing_samples_are_asked_for() -> None:
    engine = ScriptedEngine(lambda _, index: f"The answer is: {index}")
    done = {("a", 0), ("a", 2)}
    with Grader() as grader:
        rows = list(sample_solutions([PROBLEM], engine, TINY, SETTINGS, 4, grader, done))
    assert [row["sample"] for row in rows] == [1, 3]
    assert engine.asked[0].indices == (1, 3)


def test_an_empty_solution_has_one_empty_step() -> None:
    with Grader() as grader:
        (row,) = sample_solutions([PROBLEM], ScriptedEngine(lambda *_: ""), TINY, SETTINGS, 1, grader)
    assert (row["steps"], row["prediction"], row["reward"]) == ([""], None, 0.0)


def test_the_seed_of_a_problem_is_its_own() -> None:
    def seeds(*ids: str) -> dict[object, int]:
        engine = ScriptedEngine(lambda *_: RIGHT)
        with Grader() as grader:
            problems = [PROBLEM | {"id": identity} for identity in ids]
            list(sample_solutions(problems, engine, TINY, SETTINGS, 1, grader))
        return {request.key: request.seed for request in engine.asked}

    assert seeds("a", "b") == seeds("b", "a")
    assert seeds("a")["a"] == seeds("a", "b")["a"] != seeds("a", "b")["b"]


HARD = r"The answer is: (x + \frac{1}{2999!})!"  # no verdict within the limits


@pytest.mark.slow
def test_the_engine_continues_while_a_verdict_is_awaited_and_the_order_stays() -> None:
    asked: list[int] = []

    def say(_: str, index: int) -> str:
        asked.append(index)
        return HARD if index == 1 else RIGHT

    with Grader() as grader:
        rows = sample_solutions([PROBLEM], ScriptedEngine(say), TINY, SETTINGS, 9, grader)
        assert (next(rows)["sample"], asked) == (0, [0])
        assert (next(rows)["sample"], asked) == (1, list(range(9)))
        assert [row["sample"] for row in rows] == list(range(2, 9))
        assert grader.unknown == 1


@pytest.mark.slow
def test_solutions_that_wait_for_a_verdict_are_kept_when_the_engine_fails() -> None:
    class Failing(ScriptedEngine):
        def generate(
            self, requests: Iterable[Request], params: SamplingParams
        ) -> Iterator[Completion | Failure]:
            yield from super().generate(requests, params)
            raise EngineError("gone")

    kept = []
    with Grader() as grader, pytest.raises(EngineError, match="gone"):
        engine = Failing(lambda _, index: HARD if index == 0 else RIGHT)
        for row in sample_solutions([PROBLEM], engine, TINY, SETTINGS, 3, grader):
            kept.append((row["sample"], row["reward"]))
    assert kept == [(0, 0.0), (1, 1.0), (2, 1.0)]


def test_a_solution_is_continued_with_the_date_of_its_prompt() -> None:
    engine = ScriptedEngine(lambda *_: RIGHT)
    engine.tokenizer = make_tokenizer()
    engine.tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + TEMPLATE
    template = replace(load_template("gsm8k-chat"), date="2025-01-31")
    settings = replace(SETTINGS, template_options=template.options())
    with Grader() as grader:
        (row,) = sample_solutions([PROBLEM], engine, template, settings, 1, grader)
        assert row["sampling"]["date"] == "2025-01-31"
        (_,) = Roller(engine, replace(template, date="2025-02-01"), SETTINGS, 1, grader).roll([row])
    sampled, rolled = (request.prompt for request in engine.asked)
    assert rolled[: len(sampled)] == sampled  # type: ignore[index, arg-type]  # ids


def test_the_end_of_the_turn_is_a_stop_of_a_chat() -> None:
    tokenizer, chat = make_tokenizer(), load_template("gsm8k-chat")
    params = SETTINGS.params(chat, tokenizer)
    assert (params.stop, params.stop_token_ids) == ((), (2,))  # </s>
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + ' === ' }}{% endfor %}"
    params = SETTINGS.params(chat, tokenizer)
    assert (params.stop, params.stop_token_ids) == (("===",), ())  # three tokens
    assert SETTINGS.params(TINY, tokenizer) == SETTINGS.params(TINY, None)


PROBLEMS = [PROBLEM | {"id": "b", "answer": None, "target": "5"}, PROBLEM]


@pytest.mark.parametrize(
    ("problems", "summary", "warning"),
    [
        (PROBLEMS[1:], "2 solutions, 100.0% correct, 0 unfinished, ", ""),
        (PROBLEMS, "4 solutions, 100.0% correct, 0 unfinished, ", "2 of 4"),
        (PROBLEMS[:1], "2 solutions, none graded, 0 unfinished, ", "2 of 2"),
    ],
)
def test_the_summary_says_what_was_not_graded(
    problems: list[dict[str, object]],
    summary: str,
    warning: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("erprm_cli.engines.open.open_engine", lambda *_: ScriptedEngine(lambda *_: RIGHT))
    with open_output("-", {}) as out:
        sample_to(out, iter(problems), EngineConfig(), TINY, SETTINGS, 2, Reporter("sample"))
    said = capsys.readouterr().err
    assert f"erprm sample: {summary}" in said
    expected = (
        f"erprm sample: warning: {warning} solutions were not graded because their problems have no answer "
        "(their fields are id, problem, answer, level, target); --field answer=NAME names the field that has "
        "it\n"
    )
    assert (expected in said) == ("warning" in said) == bool(warning)
