"""Chat templates that fail, never end or fill the memory; all others are rendered as transformers does."""

from collections.abc import Iterator
from typing import Any

import pytest

from erprm_cli.errors import UserError
from erprm_cli.models import chat_worker
from erprm_cli.models.chat_worker import render
from tests.tiny_models import make_tokenizer

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3 = \ud83d?"}]


SHORT = """
from erprm_cli.models import chat_worker
from erprm_cli.worker_process import serve
serve(chat_worker.prepare, cpu_limit_s=0.5, memory_limit_bytes=2 << 30)
"""


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use a worker of its own with a limit of 0.5 s."""
    chat_worker._worker.cache_clear()
    monkeypatch.setattr(chat_worker, "COMMAND", (chat_worker.COMMAND[0], "-c", SHORT))
    yield
    chat_worker._worker.cache_clear()


def tokenizer_with(template: str) -> Any:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    "template",
    [
        make_tokenizer().chat_template,
        "{{ bos_token }}{% for m in messages %}\n  {%- if m.role %}\n{{ m | tojson }}{% endif %}{% endfor %}",
        "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
        "{% if tools is defined and tools %}T{% endif %}{{ add_generation_prompt }}{{ enable_thinking }}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
    ],
)
def test_chats_are_rendered_as_transformers_does(template: str) -> None:
    tokenizer = tokenizer_with(template)
    choices: list[dict[str, Any]] = [{}, {"add_generation_prompt": True}, {"enable_thinking": False}]
    for options in choices:
        expected = tokenizer.apply_chat_template(TURNS, tokenize=False, **options)
        assert render(tokenizer, TURNS, **options) == expected


def test_the_date_is_given() -> None:
    tokenizer = tokenizer_with("{{ strftime_now('%d %b %Y') }}")
    assert render(tokenizer, TURNS, today="2024-07-26") == "26 Jul 2024"
    assert len(render(tokenizer, TURNS)) == len("26 Jul 2024")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 1/0 }}", "ZeroDivisionError: division by zero"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ nothing.at.all }}", "UndefinedError"),
        ("{{ raise_exception('no\x1b[2J') }}", "TemplateError: no"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ '%1000000000000d' % 1 }}", "MemoryError"),
        ("{{ 'x' * 10 ** 10 }}", "MemoryError"),
        ("{{ 'x' * 2 ** 25 }}", "a text of more than"),
        ("{% include '/etc/passwd' %}", "TypeError: no loader"),
    ],
)
def test_a_template_that_fails_is_an_error(template: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"the chat template of .*failed: .*{reason}"):
        render(tokenizer_with(template), TURNS)
    assert render(tokenizer_with("{{ messages[0].content }}"), TURNS) == "Be brief."


LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}"


@pytest.mark.usefixtures("short_limit")
@pytest.mark.parametrize("template", [LOOP + "{% endfor %}{% endfor %}", "{{ 10 ** (10 ** 10) }}"])
def test_a_template_without_end_is_stopped(template: str) -> None:
    with pytest.raises(UserError, match="the chat template of .* was stopped: it takes more than"):
        render(tokenizer_with(template), TURNS)
    assert render(tokenizer_with("{{ messages[0].content }}"), TURNS) == "Be brief."


def test_a_tokenizer_that_renders_chats_in_its_own_way_does_so() -> None:
    class Own(type(make_tokenizer())):  # type: ignore[misc]
        def apply_chat_template(self, turns: Any, **_: Any) -> str:
            return f"{len(turns)} turns"

    tokenizer = make_tokenizer()
    tokenizer.__class__ = Own
    assert render(tokenizer, TURNS) == "2 turns"
