"""What templates/prm says: how a process reward model is asked and how its answer is read."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath

from erprm_cli import shipped
from erprm_cli.errors import UsageError

ER_PRM = "er-prm"

KINDS = ("token", "head", "value")
BUILDS = ("text", "chat", "turns", "pieces")


@dataclass(frozen=True, slots=True)
class PrmFormat:
    """How token ids are made of a problem and its steps, and how a score is made of what a model says.

    `build` names how the ids are made; `{problem}` in `prompt` stands for the problem:

        text     prompt + step 1 + tag + between + step 2 + tag + ..., tokenised as one text
        chat     the model's chat template: user: prompt, assistant: step 1 + tag + between + step 2 + tag ...
        turns    the same with user: prompt + step 1 + tag, assistant: good, user: step 2 + tag, ...
        pieces   prompt, steps and tags tokenised one by one, after the tokenizer's bos if it has one

    The model judges a step at the tag after it (with an empty tag at the step's last token); in turns at the
    answer `good`; `offset` counts tokens from there. `kind` names what it says there and how that is read:

        token    logits of a language model: softmax over the words `good` and `bad`, that of `good`
        head     logits of `num_labels` classes: softmax, the sum over the classes `labels`
        value    one number: its sigmoid
    """

    name: str
    prompt: str
    tag: str
    good: str = ""
    bad: str = ""
    between: str = ""
    kind: str = "token"
    build: str = "text"
    system: str = ""  # what the system turn of a chat says; none if empty
    num_labels: int = 2
    labels: tuple[int, ...] = (1,)
    offset: int = 0

    def __post_init__(self) -> None:
        """UsageError for fields that do not go together."""
        object.__setattr__(self, "labels", tuple(self.labels))  # a list in TOML and JSON
        if self.kind not in KINDS or self.build not in BUILDS:
            wrong, known = ("kind", KINDS) if self.kind not in KINDS else ("build", BUILDS)
            raise UsageError(
                f"PRM format {self.name}: {wrong} is {getattr(self, wrong)!r}, not one of {', '.join(known)}"
            )
        if "{problem}" not in self.prompt:
            raise UsageError(f"PRM format {self.name}: 'prompt' has no {{problem}} in it")
        if self.kind == "token" and not (self.good and self.bad):
            raise UsageError(f"PRM format {self.name}: kind token needs the words 'good' and 'bad'")
        if self.kind == "head" and not set(self.labels) < set(range(self.num_labels)):
            raise UsageError(
                f"PRM format {self.name}: 'labels' must be some of the {self.num_labels} classes"
            )
        if self.build == "turns" and not self.good:
            raise UsageError(f"PRM format {self.name}: build turns needs 'good', the assistant's answer")
        if self.build in ("text", "chat") and not self.tag:
            raise UsageError(f"PRM format {self.name}: build {self.build} needs a 'tag'")

    def fill(self, problem: str) -> str:
        """Return the prompt for one problem, whose braces mean nothing."""
        return self.prompt.replace("{problem}", problem)

    def render(self, problem: str, steps: Sequence[str]) -> tuple[str, list[int]]:
        """Return the text, and for each step the character at which its tag ends (the tag's last one).

        The ends are counted, never searched: a problem or step that holds the tag's text changes nothing.

        >>> PrmFormat("er-prm", "{problem} ", " ки", " +", " -").render("Why?", ["So.", "Thus."])
        ('Why? So. киThus. ки', [10, 18])
        """
        return self.join(steps, self.fill(problem))

    def join(self, steps: Sequence[str], before: str = "") -> tuple[str, list[int]]:
        """As `render`, of the steps alone, after the text `before`."""
        text, tag_ends = before, []
        for number, step in enumerate(steps):
            text += (self.between if number else "") + step + self.tag
            tag_ends.append(len(text) - 1)
        return text, tag_ends


def prm_format(name: str) -> PrmFormat:
    """Return a shipped format by its name, or one from a .toml file. UsageError says what is wrong."""
    return _read(name)[0]


def known_format(model: str) -> str | None:
    """Return the format of a public PRM by its name on the Hub, or by that of a folder it was copied to.

    >>> known_format("peiyi9979/math-shepherd-mistral-7b-prm")
    'math-shepherd'
    """
    own_name = PurePosixPath(model).name
    for name in shipped.names("prm"):
        if any(own_name == PurePosixPath(hub).name or fnmatch(model, hub) for hub in _read(name)[1]):
            return name
    return None


def _read(name: str) -> tuple[PrmFormat, list[str]]:
    """Return a format and the Hub names of the models that are read by it (with * and ?)."""
    path = shipped.template_path("prm", name, "PRM format")
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        models = fields.pop("models", [])
        return PrmFormat(name=path.stem, **fields), models
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError) as error:
        raise UsageError(f"{name}: {error}") from None
