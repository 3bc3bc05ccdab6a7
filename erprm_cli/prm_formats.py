"""The text that a process reward model reads, and the words that it is read by."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from erprm_cli.errors import UserError

ER_PRM = "er-prm"


@dataclass(frozen=True, slots=True)
class PrmFormat:
    """prompt + step 1 + tag + between + step 2 + tag + ... + step L + tag.

    `{problem}` in `prompt` stands for the problem. The model judges a step at the tag right after it, by its
    logits of the words `good` and `bad`. Each of `tag`, `good` and `bad` must be one token.
    """

    name: str
    prompt: str
    tag: str
    good: str
    bad: str
    between: str = ""

    def render(self, problem: str, steps: Sequence[str]) -> tuple[str, list[int]]:
        """Return the text, and for each step the character at which its tag ends (the tag's last one).

        The ends are counted, never searched: a problem or step that holds the tag's text changes nothing.

        >>> PrmFormat("er-prm", "{problem} ", " ки", " +", " -").render("Why?", ["So.", "Thus."])
        ('Why? So. киThus. ки', [10, 18])
        """
        text = self.prompt.replace("{problem}", problem)
        tag_ends = []
        for number, step in enumerate(steps):
            text += (self.between if number else "") + step + self.tag
            tag_ends.append(len(text) - 1)
        return text, tag_ends


def prm_format(name: str) -> PrmFormat:
    """Return a shipped format by its name."""
    path = files("erprm_cli.templates") / "prm" / f"{name}.toml"
    if not path.is_file():
        raise UserError(f"no PRM format {name!r} in templates/prm/")
    return PrmFormat(name=name, **tomllib.loads(path.read_text(encoding="utf-8")))
