"""Policy templates: how a policy is prompted and how its solutions are read.

A template is a file in templates/policy. To add one, add a file there, or give a .toml file to --template.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from erprm_cli import options, shipped
from erprm_cli.answers.extraction import DEFAULT_RULES, RULES
from erprm_cli.errors import UsageError, UserError
from erprm_cli.hashing import fields_hash
from erprm_cli.io.content import Content
from erprm_cli.io.files import read_toml
from erprm_cli.io.provenance import read_meta
from erprm_cli.io.typed_fields import from_table
from erprm_cli.policy.reasoning import MARKS, Marks
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import STEPS_OF

KNOWN_RULES = f"known rules: {', '.join(RULES)}"


@dataclass(frozen=True, slots=True)
class PolicyTemplate:
    """How a policy is prompted and how its solutions are read.

    `prompt` is the prompt, or with `chat` the user's turn; `{problem}` in it is replaced by the problem. A
    chat prompt goes through the model's own chat template, after the `system` turn if there is one.
    `step_break` is a regular expression that matches what separates two steps. `answers` names the rules of
    `answers.extraction` that are tried in turn to find the final answer. Generation ends before any text in
    `stop`. `date` (YYYY-MM-DD) is what a chat template gets that asks for today's date; empty: today.

    Of thinking models: `reasoning` names the marks (see `policy.reasoning`) that separate the reasoning from
    the answer; empty: all is answer. `chat_template_kwargs` are given to the chat template, here or in a
    server. `steps_of` names the part that is split into steps, "answer" or "reasoning".
    """

    name: str
    prompt: str
    chat: bool = False
    system: str = ""
    step_break: str = r"\n+"
    answers: tuple[str, ...] = DEFAULT_RULES
    stop: tuple[str, ...] = ()
    reasoning: str = ""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    steps_of: str = STEPS_OF[0]
    date: str = ""

    @property
    def marks(self) -> Marks | None:
        """The marks of the reasoning; None if the template has none."""
        return MARKS[self.reasoning] if self.reasoning else None

    def options(self) -> Row:
        """Return what a run records beside the name of the template: what flags or the day can change."""
        found: Row = {}
        if self.chat_template_kwargs:
            found["chat_template_kwargs"] = self.chat_template_kwargs
        if self.steps_of != STEPS_OF[0]:
            found["steps_of"] = self.steps_of
        if self.date:
            found["date"] = self.date
        return found

    def __post_init__(self) -> None:
        """Raise UsageError for a value with which no prompt or no solution could be right."""
        if "{problem}" not in self.prompt:
            raise UsageError("'prompt' must contain {problem}")
        try:
            is_empty = re.fullmatch(self.step_break, "")
        except re.error as error:
            raise UsageError(f"'step_break' is not a regular expression: {error}") from None
        if is_empty:
            raise UsageError(
                f"'step_break' {self.step_break!r} matches the empty text, so no step would be whole"
            )
        if not self.answers:
            raise UsageError(f"'answers' names no rule, so no answer would be found; {KNOWN_RULES}")
        for rule in self.answers:
            if rule not in RULES:
                raise UsageError(f"unknown rule {rule!r} in 'answers'; {KNOWN_RULES}")
        if "" in self.stop:
            raise UsageError("'stop' has an empty string, at which every solution would end")
        if self.date != _as_date(self.date):
            raise UsageError(f"'date' must be a date such as 2025-01-31, not {self.date!r}")
        self._check_thinking()

    def _check_thinking(self) -> None:
        if self.reasoning and self.reasoning not in MARKS:
            known = ", ".join(MARKS)
            raise UsageError(f"unknown 'reasoning' {self.reasoning!r}; known names: {known}")
        if self.steps_of not in STEPS_OF:
            raise UsageError(f"'steps_of' must be {' or '.join(STEPS_OF)}, not {self.steps_of!r}")
        if self.steps_of == "reasoning" and not self.reasoning:
            raise UsageError("steps of the reasoning need a template of a thinking model, such as qwen3")
        if self.chat_template_kwargs and not self.chat:
            raise UsageError("chat_template_kwargs need a chat template (chat = true)")

    def fill(self, problem: str) -> str:
        """Return the prompt (or the user's turn) for one problem; braces in the problem have no meaning."""
        return self.prompt.replace("{problem}", problem)

    def content(self) -> Content:
        """Return what the template says, whatever it is called."""
        return Content(partial(fields_hash, self))


def load_template(
    name: str, chat_template_kwargs: Sequence[str] | None = None, steps_of: str | None = None
) -> PolicyTemplate:
    """Return the shipped template `name`, or the one in a .toml file. Raises UsageError if it is invalid.

    `chat_template_kwargs`, as KEY=VALUE, are added to its own, and `steps_of` replaces its own.
    """
    path = shipped.template_path("policy", name, "template")
    template = from_table(PolicyTemplate, read_toml(path), str(path), name=path.stem)
    changed = options.key_values("--chat-template-kwarg", chat_template_kwargs or ())
    kwargs = template.chat_template_kwargs | changed
    return replace(template, chat_template_kwargs=kwargs, steps_of=steps_of or template.steps_of)


def dated(template: PolicyTemplate, continued: str | Path | None = None) -> PolicyTemplate:
    """Return a template with the date that its prompts get: its own, or today.

    If the output `continued` was begun earlier, it is the date of that run, so the prompts stay the same.
    """
    if template.date:
        return template
    begun = ""
    if continued is not None:
        with suppress(UserError):  # there is none, or opening the output reports it
            begun = _as_date(read_meta(Path(continued))["settings"].get("date"))
    return replace(template, date=begun or date.today().isoformat())


def dated_as(row: Row, template: PolicyTemplate) -> PolicyTemplate:
    """Return the template with the date that a solution was sampled with, if the row names one."""
    sampling = row.get("sampling")
    begun = _as_date(sampling.get("date")) if isinstance(sampling, dict) else ""
    return replace(template, date=begun or template.date)


def _as_date(value: object) -> str:
    """Return a date as it is, or "" if it is not one in the form YYYY-MM-DD."""
    try:
        return date.fromisoformat(value).isoformat() if isinstance(value, str) else ""
    except ValueError:
        return ""
