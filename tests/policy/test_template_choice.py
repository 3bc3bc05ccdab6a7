"""Which template a run gets, and that a wrong one is refused before a model is loaded."""

import json
from pathlib import Path

import pytest

from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UserError
from erprm_cli.policy.template_choice import choose_template
from erprm_cli.terminal.reporter import Reporter
from tests.tiny_models import save_model

CHAT_TEMPLATE = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
SERVED = "http://localhost:1/v1"


def model(folder: Path, chat_template: str | None = None, trained_with: str | None = None) -> str:
    """Save a model, with a chat template and the card of a trained policy if they are given."""
    save_model(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template)
    if trained_with is not None:
        (folder / "erprm.json").write_text(json.dumps({"settings": {"template": trained_with}}))
    (folder / "model.safetensors").unlink()  # no weights are needed to choose
    return str(folder)


def chosen(
    capsys: pytest.CaptureFixture[str], name: str | None, policy: str, base_url: str | None = None
) -> tuple[str, str]:
    """Return the name of the chosen template, and what is reported."""
    template = choose_template(name, EngineConfig(policy, base_url=base_url), Reporter("sample"))
    return template.name, capsys.readouterr().err


def test_tiny_has_its_own_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    name, said = chosen(capsys, None, "tiny")
    assert (name, said) == (
        "tiny",
        "erprm sample: template tiny (made for the model tiny; -t NAME chooses another)\n",
    )


@pytest.mark.parametrize("base_url", [None, SERVED])
@pytest.mark.parametrize(
    ("chat_template", "name", "reason"),
    [
        (CHAT_TEMPLATE, "math-chat", "{} has a chat template"),
        (CHAT_TEMPLATE + "</think>", "deepseek-r1", "the chat template of {} has '</think>', the mark of "),
        (
            CHAT_TEMPLATE + "{{ enable_thinking }}</think>",
            "qwen3",
            "the chat template of {} has 'enable_thinking', the mark",
        ),
        (CHAT_TEMPLATE + "<|channel|>", "gpt-oss", "the chat template of {} has '<|channel|>', the mark of "),
        (None, "math", "{} has no chat template, so it is taken for a base model"),
    ],
)
def test_the_model_decides_whether_the_template_is_a_chat(
    chat_template: str | None,
    name: str,
    reason: str,
    base_url: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy = model(tmp_path, chat_template)
    found, said = chosen(capsys, None, policy, base_url)
    (line,) = (line for line in said.splitlines() if line.startswith("erprm"))
    assert found == name and reason.format(policy) in line
    assert line.startswith(f"erprm sample: template {name} (") and line.endswith("; -t NAME chooses another)")


def test_a_served_model_without_a_tokenizer_here_is_taken_for_a_chat_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, said = chosen(capsys, None, "./served", SERVED)
    assert name == "math-chat" and "no tokenizer of ./served is here" in said


def test_a_policy_of_erprm_keeps_its_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = model(tmp_path, trained_with="tiny")
    name, said = chosen(capsys, None, policy)
    assert name == "tiny" and f"({policy} was trained with it; " in said
    policy = model(tmp_path, trained_with="own")
    with pytest.raises(UserError, match="was trained with the template 'own', .*; give its file with"):
        chosen(capsys, None, policy)


def test_a_named_template_is_reported_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, said = chosen(capsys, "gsm8k", model(tmp_path, CHAT_TEMPLATE))
    assert (name, said) == ("gsm8k", "erprm sample: template gsm8k (--template)\n")


def test_a_chat_template_that_is_missing_or_broken_is_found_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="math-chat is for chat models, but .* a plain template such as math"):
        chosen(capsys, "math-chat", model(tmp_path))
    with pytest.raises(UserError, match="the chat template of .* failed: TemplateError: no system turn"):
        chosen(capsys, None, model(tmp_path, "{{ raise_exception('no system turn') }}"))
