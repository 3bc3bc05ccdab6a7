"""Policy templates: how a policy is prompted and how its solutions are read.

A template is a file in templates/policy. To add one, add a file there, or give a .toml file to --template.
"""

import re
from dataclasses import dataclass

from erprm_cli import shipped
from erprm_cli.answers.extraction import DEFAULT_RULES, RULES
from erprm_cli.errors import UsageError
from erprm_cli.io.files import read_toml
from erprm_cli.io.typed_fields import from_table

KNOWN_RULES = f"known rules: {', '.join(RULES)}"


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

    def fill(self, problem: str) -> str:
        """Return the prompt (or the user's turn) for one problem; braces in the problem have no meaning."""
        return self.prompt.replace("{problem}", problem)


def load_template(name: str) -> PolicyTemplate:
    """Return the shipped template `name`, or the one in a .toml file. Raises UsageError if it is invalid."""
    path = shipped.template_path("policy", name, "template")
    return from_table(PolicyTemplate, read_toml(path), str(path), name=path.stem)
