from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from erprm_cli import shipped
from erprm_cli.errors import UsageError
from erprm_cli.io.provenance import write_meta
from erprm_cli.policy.templates import PolicyTemplate, dated, dated_as, load_template

PROMPT = 'prompt = "{problem}"\n'


def load(folder: Path, text: str) -> PolicyTemplate:
    path = folder / "bad.toml"
    path.write_text(text)
    return load_template(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing key 'prompt'"),
        (
            PROMPT + "foo = 1",
            "unknown key 'foo'; known keys: prompt, chat, system, step_break, answers, stop",
        ),
        (PROMPT + 'name = "x"', "unknown key 'name'"),
        ("prompt = 3", "'prompt' must be a string, not 3"),
        (PROMPT + 'chat = "yes"', "'chat' must be true or false, not 'yes'"),
        (PROMPT + "chat = 1", "'chat' must be true or false, not 1"),
        (PROMPT + "system = false", "'system' must be a string, not False"),
        (PROMPT + "step_break = 2", "'step_break' must be a string, not 2"),
        (PROMPT + 'step_break = "("', "'step_break' is not a regular expression: "),
        (PROMPT + "stop = 1", "'stop' must be a list of strings, not 1"),
        (PROMPT + 'stop = ""', "'stop' has an empty string, at which every solution would end"),
        (PROMPT + 'stop = ["a", ""]', "'stop' has an empty string, at which every solution would end"),
        (PROMPT + "step_break = '\\n*'", "'step_break' '\\\\n*' matches the empty text"),
        (
            PROMPT + "answers = []",
            "'answers' names no rule, so no answer would be found; known rules: phrase",
        ),
        (PROMPT + 'answers = "box"', "unknown rule 'box' in 'answers'; known rules: phrase"),
        (PROMPT + "stop = [1]", "'stop' must be a list of strings, not [1]"),
        (PROMPT + "answers = true", "'answers' must be a list of strings, not True"),
        (PROMPT + 'answers = ["bracket"]', "unknown rule 'bracket' in 'answers'; known rules: phrase, boxed"),
        (PROMPT + 'date = "31 Jan 2025"', "'date' must be a date such as 2025-01-31, not '31 Jan 2025'"),
        (PROMPT + "date = 2025-01-31", "'date' must be a string, not datetime.date(2025, 1, 31)"),
        ('prompt = "no place"', "'prompt' must contain {problem}"),
        ("prompt = ", "Invalid value"),
    ],
)
def test_an_invalid_template_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert str(caught.value).replace("\n", "\\n").startswith(f"{tmp_path}/bad.toml: {message}")


def test_a_missing_file_and_an_unknown_name_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone.toml: No such file"):
        load_template(str(tmp_path / "gone.toml"))
    with pytest.raises(UsageError, match="unknown template 'gone'; known names: .*gsm8k, "):
        load_template("gone")


def test_every_key_is_read(tmp_path: Path) -> None:
    text = PROMPT + 'chat = true\nsystem = "s"\nstep_break = "x"\nanswers = ["boxed"]\nstop = ["a", "b"]\n'
    text += 'date = "2025-01-31"'
    assert load(tmp_path, text) == PolicyTemplate(
        "bad", "{problem}", True, "s", "x", ("boxed",), ("a", "b"), date="2025-01-31"
    )


def test_one_string_is_a_list_of_one(tmp_path: Path) -> None:
    template = load(tmp_path, PROMPT + 'stop = "Answer:"\nanswers = "boxed"')
    assert (template.stop, template.answers) == (("Answer:",), ("boxed",))


def test_every_shipped_template_is_valid() -> None:
    assert [load_template(name).name for name in shipped.names("policy")] == shipped.names("policy")


def test_braces_in_a_problem_have_no_meaning() -> None:
    assert PolicyTemplate("x", "Q: {problem}").fill("{problem} {0}") == "Q: {problem} {0}"


CHAT = PolicyTemplate("chat", "{problem}", chat=True)


def test_a_chat_gets_today_or_the_date_of_the_run_that_it_continues(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    today = date.today().isoformat()
    assert dated(CHAT).date == dated(CHAT, path).date == today
    write_meta(path, {"seed": 0})  # of an earlier version
    assert dated(CHAT, path).date == today
    write_meta(path, {"date": "2025-01-31"})
    assert dated(CHAT, path).date == dated(CHAT, str(path)).date == "2025-01-31"
    own = replace(CHAT, date="2024-07-26")
    assert dated(own, path) == own


def test_a_solution_is_continued_with_the_date_of_its_prompt() -> None:
    template = replace(CHAT, date="2025-02-01")
    assert dated_as({"sampling": {"date": "2025-01-31"}}, template).date == "2025-01-31"
    for row in ({}, {"sampling": None}, {"sampling": {"date": None}}, {"sampling": {"date": "soon"}}):
        assert dated_as(row, template) == template


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('reasoning = "thoughts"', "unknown 'reasoning' 'thoughts'; known names: think, mistral, harmony"),
        ("reasoning = true", "'reasoning' must be a string, not True"),
        ("chat_template_kwargs = 3", "'chat_template_kwargs' must be a table, not 3"),
        ("chat_template_kwargs = {a = 1}", "chat_template_kwargs need a chat template (chat = true)"),
        ('steps_of = "end"', "'steps_of' must be answer or reasoning, not 'end'"),
        ('steps_of = "reasoning"', "steps of the reasoning need a template of a thinking model"),
    ],
)
def test_invalid_settings_of_thinking_models_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, PROMPT + text)
    assert str(caught.value).startswith(f"{tmp_path}/bad.toml: {message}")


def test_flags_add_options_and_choose_the_part_that_has_steps() -> None:
    template = load_template("qwen3")
    assert (template.options(), template.steps_of) == (
        {"chat_template_kwargs": {"enable_thinking": True}},
        "answer",
    )
    changed = load_template("qwen3", ["enable_thinking=false", "effort=high", "budget=3"], "reasoning")
    assert changed.options() == {
        "chat_template_kwargs": {"enable_thinking": False, "effort": "high", "budget": 3},
        "steps_of": "reasoning",
    }
    assert load_template("math-chat").options() == {}
    with pytest.raises(UsageError, match="--chat-template-kwarg 'enable_thinking' is not KEY=VALUE"):
        load_template("qwen3", ["enable_thinking"])
    with pytest.raises(UsageError, match="need a chat template"):
        load_template("tiny", ["a=1"])
