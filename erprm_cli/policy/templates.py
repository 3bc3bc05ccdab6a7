"""What templates/ says: how a policy is prompted and its solutions are read."""

import re
import tomllib
from dataclasses import dataclass

from erprm_cli import shipped
from erprm_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class PolicyTemplate:
    """How a policy is asked and how its answer is read.

    `prompt` is the text of the prompt, or with `chat` of the user's turn, in which `{problem}` stands for
    the problem. A chat prompt goes through the model's own chat template, after the `system` turn if there
    is one. `step_break` is a regular expression; what it matches parts two steps. `answers` names the rules
    of `answers.extraction` in the order in which they are tried. Generation ends before any text of `stop`.
    """

    name: str
    prompt: str
    chat: bool = False
    system: str = ""
    step_break: str = r"\n+"
    answers: tuple[str, ...] = ("phrase", "boxed", "hashes")
    stop: tuple[str, ...] = ()

    def fill(self, problem: str) -> str:
        """Return the prompt (or the user's turn) for one problem, whose braces mean nothing."""
        return self.prompt.replace("{problem}", problem)


def policy_template(name: str) -> PolicyTemplate:
    """Return a shipped template by name, or one from a .toml file. UsageError says what is wrong."""
    path = shipped.template_path("policy", name, "template")
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        for field in ("answers", "stop"):
            if field in fields:
                fields[field] = tuple(fields[field])
        template = PolicyTemplate(name=path.stem, **fields)
        re.compile(template.step_break)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, TypeError, re.error) as error:
        raise UsageError(f"{name}: {error}") from None
    if "{problem}" not in template.prompt:
        raise UsageError(f"{name}: 'prompt' has no {{problem}} in it")
    return template
