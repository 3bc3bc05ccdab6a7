"""Policy templates: how a policy is prompted and how its solutions are read.

A template is a file in templates/policy. To add one, add a file there, or give a .toml file to --template.
"""

import re
from dataclasses import dataclass
from functools import partial

from erprm_cli import shipped
from erprm_cli.answers.extraction import DEFAULT_RULES, RULES
from erprm_cli.errors import UsageError
from erprm_cli.hashing import fields_hash
from erprm_cli.io.content import Content
from erprm_cli.io.files import read_toml
from erprm_cli.io.typed_fields import from_table


@dataclass(frozen=True, slots=True)
class PolicyTemplate:
    """How a policy is prompted and how its solutions are read.

    `prompt` is the prompt, or with `chat` the user's turn; `{problem}` in it is replaced by the problem. A
    chat prompt goes through the model's own chat template, after the `system` turn if there is one.
    `step_break` is a regular expression that matches what separates two steps. `answers` names the rules of
    `answers.extraction` that are tried in turn to find the final answer. Generation ends before any text in
    `stop`.
    """

    name: str
    prompt: str
    chat: bool = False
    system: str = ""
    step_break: str = r"\n+"
    answers: tuple[str, ...] = DEFAULT_RULES
    stop: tuple[str, ...] = ()

    def fill(self, problem: str) -> str:
        """Return the prompt (or the user's turn) for one problem; braces in the problem have no meaning."""
        return self.prompt.replace("{problem}", problem)

    def content(self) -> Content:
        """Return what the template says, whatever it is called."""
        return Content(partial(fields_hash, self))


def load_template(name: str) -> PolicyTemplate:
    """Return the shipped template `name`, or the one in a .toml file. Raises UsageError if it is invalid."""
    path = shipped.template_path("policy", name, "template")
    table = read_toml(path)
    template = from_table(PolicyTemplate, table, str(path), name=path.stem)
    if "{problem}" not in template.prompt:
        raise UsageError(f"{path}: 'prompt' must contain {{problem}}")
    try:
        re.compile(template.step_break)
    except re.error as error:
        raise UsageError(f"{path}: 'step_break' is not a regular expression: {error}") from None
    for rule in template.answers:
        if rule not in RULES:
            raise UsageError(f"{path}: unknown rule {rule!r} in 'answers'; known rules: {', '.join(RULES)}")
    return template
