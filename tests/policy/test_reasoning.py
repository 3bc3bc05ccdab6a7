"""Reasoning and answer are told apart by the marks of each format, and put together again as they were."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.answers.grader import Grader
from erprm_cli.engines.base import Chat, Completion
from erprm_cli.errors import RowError, UserError
from erprm_cli.policy.finished_prefixes import FinishedPrefixes
from erprm_cli.policy.reasoning import MARKS, Marks, Parts, continued, join, split, written, written_prefixes
from erprm_cli.policy.rollouts import Roller, check_gradable
from erprm_cli.policy.sampling import SamplingSettings, sample_solutions
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows.row import Row
from tests.scripted import ScriptedEngine

THINK, MISTRAL, HARMONY = MARKS["think"], MARKS["mistral"], MARKS["harmony"]
ANALYSIS, FINAL = HARMONY.opening, HARMONY.unthought
TURN = "<|end|><|start|>assistant"


@pytest.mark.parametrize(
    ("marks", "text", "parts"),
    [
        (THINK, "<think>\nSo 2 + 3.\n</think>\n\n5", ("\nSo 2 + 3.\n", "\n\n5")),
        (THINK, "\n<think>So.</think>5", ("So.", "5")),
        (THINK, "<think>\n\n</think>\n\n5", ("\n\n", "\n\n5")),
        (THINK, "So.\n</think>\n\n5", ("So.\n", "\n\n5")),  # the opening mark is in a prompt that is unknown
        (THINK, "<think>\nSo", ("\nSo", None)),
        (THINK, "<think>", ("", None)),
        (THINK, "<think>a</think>", ("a", "")),
        (THINK, "<think>a</think>b</think>c", ("a", "b</think>c")),
        (THINK, "5", (None, "5")),
        (THINK, "", (None, "")),
        (MISTRAL, "[THINK]So.[/THINK]5", ("So.", "5")),
        (MISTRAL, "[THINK]So", ("So", None)),
        (MISTRAL, "5", (None, "5")),
        (HARMONY, f"{ANALYSIS}So.{TURN}{FINAL}5", ("So.", "5")),
        (HARMONY, f"{ANALYSIS}So", ("So", None)),
        (HARMONY, f"{ANALYSIS}So.<|end|>", ("So.<|end|>", None)),
        (HARMONY, f"{ANALYSIS}a{TURN}{ANALYSIS}b{TURN}{FINAL}5", (f"a{TURN}{ANALYSIS}b", "5")),
        (HARMONY, f"{FINAL}5", (None, "5")),
        (HARMONY, "<|channel|>commentary to=functions.f<|message|>{}", ("<|channel|>comm", None)),
        (HARMONY, "<|channel|>", ("<|channel|>", None)),
        (HARMONY, "5", (None, "5")),  # a server has read the channels
        (None, "<think>So.</think>5", (None, "<think>So.</think>5")),
    ],
)
def test_completions_are_split_at_their_marks(
    marks: Marks | None, text: str, parts: tuple[str | None, str | None]
) -> None:
    found = split(text, marks)
    if parts[0] == "<|channel|>comm":
        parts = (text, None)
    assert found == parts
    if text.lstrip() == text and (marks is None or text.startswith((marks.opening, "<|channel|>"))):
        assert join(found, marks) == text


def test_a_completion_after_an_opened_prompt_begins_with_the_reasoning() -> None:
    assert split("So.\n</think>\n\n5", THINK, is_open=True) == ("So.\n", "\n\n5")
    assert split("So", THINK, is_open=True) == ("So", None)
    assert split("", THINK, is_open=True) == ("", None)


@given(
    st.sampled_from([*MARKS.values(), None]), st.none() | st.text("ab\n <>", max_size=8), st.text("ab\n <")
)
def test_split_is_the_inverse_of_join(marks: Marks | None, reasoning: str | None, answer: str) -> None:
    parts = Parts(reasoning if marks else None, answer)
    assert split(join(parts, marks), marks) == parts
    if parts.reasoning is not None:
        assert split(join(Parts(reasoning, None), marks), marks) == (reasoning, None)


@pytest.mark.parametrize("marks", MARKS.values())
@pytest.mark.parametrize("parts", [Parts("a\nb", "c\nd"), Parts("a", None), Parts(None, "c")])
def test_a_prompt_with_the_opening_mark_gets_no_second_one(marks: Marks, parts: Parts) -> None:
    text = join(parts, marks)
    opened = f"problem{marks.opening}\n"
    assert continued("problem", text, marks) == text
    assert split(continued(opened, text, marks), marks, is_open=True)[1] == parts.answer
    assert (opened + continued(opened, text, marks)).count(marks.opening) == 1


ROW: Row = {
    "id": "a",
    "problem": "2 + 3?",
    "answer": "5",
    "sample": 0,
    "reasoning": "\nFirst.\n\nThen.\n",
    "solution": "\n\nSo\nThe answer is: 5",
    "steps": ["So", "The answer is: 5"],
    "reward": 1.0,
    "finish_reason": "stop",
}
OF_REASONING = ROW | {"steps": ["First.", "Then."], "steps_of": "reasoning"}


def test_what_was_written_and_its_prefixes_have_the_marks() -> None:
    assert written(ROW, THINK) == "<think>\nFirst.\n\nThen.\n</think>\n\nSo\nThe answer is: 5"
    assert written_prefixes(ROW, THINK) == ["<think>\nFirst.\n\nThen.\n</think>\n\nSo\n"]
    assert written_prefixes(OF_REASONING, THINK) == ["<think>\nFirst.\n\n"]
    unfinished = {"reasoning": "First", "solution": "", "steps": [""], "finish_reason": "length"}
    assert written(unfinished, THINK) == "<think>First"
    assert written(unfinished | {"finish_reason": "stop"}, THINK) == "<think>First</think>"
    assert written({"solution": "x"}, None) == "x"


def test_rows_without_reasoning_are_written_as_before() -> None:
    row = {"solution": "a\nb", "steps": ["a", "b"]}
    assert (written(row, None), written_prefixes(row, None)) == ("a\nb", ["a\n"])


# Sampling and rollouts

SETTINGS = SamplingSettings("scripted", None, 1.0, 1.0, 60, 0, "think")
CHAT = PolicyTemplate("think", "{problem}", chat=True, reasoning="think")
PLAIN = PolicyTemplate("think", "Q: {problem}\n", reasoning="think")
OPENED = PolicyTemplate("think", "Q: {problem}\n<think>\n", reasoning="think")
PROBLEM = {"id": "a", "problem": "2 + 3?", "answer": "5"}


def sampled(text: str, template: PolicyTemplate = PLAIN) -> Row:
    with Grader() as grader:
        engine = ScriptedEngine(lambda *_: text)
        (row,) = sample_solutions([PROBLEM], engine, template, SETTINGS, 1, grader)
        return row


def part(row: Row, *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("<think>\nIs it\n\n4?\n</think>\n\nThe answer is: 5", PLAIN),
        ("<think>\nIs it\n\n4?\n</think>\n\nThe answer is: 5", CHAT),
        ("\nIs it\n\n4?\n</think>\n\nThe answer is: 5", OPENED),
        ("\nIs it\n\n4?\n</think>\n\nThe answer is: 5", CHAT),  # the server's prompt is opened
    ],
)
def test_a_row_has_the_reasoning_in_a_field_of_its_own(text: str, template: PolicyTemplate) -> None:
    row = sampled(text, template)
    assert part(row, "reasoning", "solution") == ("\nIs it\n\n4?\n", "\n\nThe answer is: 5")
    assert part(row, "steps", "prediction", "reward", "finish_reason") == (
        ["The answer is: 5"],
        "5",
        1.0,
        "stop",
    )
    assert row["num_tokens"] == len(text)
    assert list(row)[3:6] == ["sample", "reasoning", "solution"] and "steps_of" not in row


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("<think>The answer is: 5", PLAIN),
        ("The answer is: 5", OPENED),
        ("<think>The answer is: 5" + "." * 60, CHAT),
        ("The answer is: 5" + "." * 60, CHAT),  # nobody knows whether the prompt was opened
    ],
)
def test_an_open_thought_is_unfinished_and_has_no_answer(text: str, template: PolicyTemplate) -> None:
    row = sampled(text, template)
    assert row["reasoning"].startswith("The answer is: 5")
    assert part(row, "solution", "steps", "prediction", "reward", "finish_reason") == (
        "",
        [""],
        None,
        0.0,
        "length",
    )


def test_an_answer_without_reasoning_has_null_there() -> None:
    assert part(sampled("The answer is: 5"), "reasoning", "prediction", "reward") == (None, "5", 1.0)
    assert part(sampled("The answer is: 5", CHAT), "reasoning", "prediction", "reward") == (None, "5", 1.0)


def test_steps_of_the_reasoning_are_split_from_it() -> None:
    template = PolicyTemplate("think", "{problem}", reasoning="think", steps_of="reasoning")
    row = sampled("<think>\nIs it\n4?\n</think>The answer is: 5", template)
    assert part(row, "steps_of", "steps", "prediction") == ("reasoning", ["Is it", "4?"], "5")
    assert sampled("The answer is: 5", template)["steps"] == [""]


def test_reasoning_of_a_server_is_taken_with_any_template() -> None:
    class Server(ScriptedEngine):
        def generate(self, *args: Any) -> Any:
            for found in super().generate(*args):
                assert isinstance(found, Completion)
                yield Completion(found.key, found.index, found.text, 9, "stop", "Is it 4?")

    def row(text: str, template: PolicyTemplate) -> Row:
        with Grader() as grader:
            (found,) = sample_solutions([PROBLEM], Server(lambda *_: text), template, SETTINGS, 1, grader)
            return found

    for template in (CHAT, PolicyTemplate("chat", "{problem}", chat=True)):
        found = row("The answer is: 5", template)
        assert part(found, "reasoning", "solution", "num_tokens") == ("Is it 4?", "The answer is: 5", 9)
        assert part(row("", template), "solution", "reward", "finish_reason") == ("", 0.0, "length")


def rolled(
    row: Row, say: str, template: PolicyTemplate = PLAIN, **options: Any
) -> tuple[Row, ScriptedEngine]:
    engine = ScriptedEngine(lambda *_: say)
    with Grader() as grader:
        (found,) = Roller(engine, template, SETTINGS, 2, grader, **options).roll([row])
    return found, engine


@pytest.mark.parametrize(
    ("row", "say", "begun", "reward"),
    [
        (ROW, "The answer is: 5", "<think>\nFirst.\n\nThen.\n</think>\n\nSo\n", 1.0),
        (ROW, "The answer is: 6", "<think>\nFirst.\n\nThen.\n</think>\n\nSo\n", 0.0),
        (OF_REASONING, "Then.\n</think>\n\nThe answer is: 5", "<think>\nFirst.\n\n", 1.0),
        (OF_REASONING, "Then.\n</think>\n\nThe answer is: 6", "<think>\nFirst.\n\n", 0.0),
        (OF_REASONING, "Then. The answer is: 5", "<think>\nFirst.\n\n", 0.0),  # still open
        (ROW | {"reasoning": None}, "The answer is: 5", "\n\nSo\n", 1.0),
    ],
)
def test_rollouts_continue_the_part_that_has_the_steps(row: Row, say: str, begun: str, reward: float) -> None:
    found, engine = rolled(row, say, keep_text=True)
    assert [request.prompt for request in engine.asked] == [f"Q: 2 + 3?\n{begun}"]
    assert found["rollouts"] == [[reward] * 2, [1.0]]
    assert found["completions"] == [[say] * 2, [""]]


def test_rollouts_after_an_opened_prompt_repeat_no_mark() -> None:
    row = OF_REASONING | {"reasoning": "First.\n\nThen.\n"}
    _, engine = rolled(row, "</think>The answer is: 5", OPENED)
    assert engine.asked[0].prompt == "Q: 2 + 3?\n<think>\nFirst.\n\n"


def test_an_answer_has_other_rollouts_after_other_reasoning() -> None:
    other = ROW | {"sample": 1, "reasoning": "Guess."}
    engine = ScriptedEngine(lambda *_: "The answer is: 5")
    with Grader() as grader:
        roller = Roller(engine, PLAIN, SETTINGS, 2, grader)
        list(roller.roll([ROW, other, OF_REASONING | {"sample": 2}]))
    assert (len(engine.asked), roller.tally.shared_prefixes) == (3, 0)


def test_prefixes_of_existing_rows_are_found_again() -> None:
    for row in (ROW, OF_REASONING):
        first, _ = rolled(row, "</think>The answer is: 5")
        finished = FinishedPrefixes(marks=THINK)
        finished.add_row(first)
        again, engine = rolled(row, "no", finished=finished)
        assert (again, engine.asked) == (first, [])


def test_reasoning_is_not_continued_without_marks_or_by_a_server_that_may_change_it() -> None:
    with pytest.raises(RowError, match="'reasoning' needs a template of a thinking model, such as qwen3"):
        check_gradable(ROW)
    assert check_gradable(ROW, THINK) == ROW
    with pytest.raises(UserError, match="template think need the model's tokenizer here"):
        rolled(ROW, "", CHAT)


def test_a_chat_gets_the_options_of_its_template() -> None:
    template = PolicyTemplate("chat", "{problem}", chat=True, chat_template_kwargs={"enable_thinking": False})
    engine = ScriptedEngine(lambda *_: "")
    with Grader() as grader:
        list(sample_solutions([PROBLEM], engine, template, SETTINGS, 1, grader))
    (request,) = engine.asked
    assert request.prompt == Chat((("user", "2 + 3?"),), "", {"enable_thinking": False})
