"""PRM formats: how the input of a process reward model is built and how its output is read.

A format is a file in templates/prm. To add one, add a file there, or give a .toml file to --prm-format.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Literal

from erprm_cli import shipped
from erprm_cli.errors import UsageError
from erprm_cli.io.files import read_toml
from erprm_cli.io.typed_fields import from_table, typed

ER_PRM = "er-prm"
MAX_CLASSES = 1_000  # of a head; published PRMs have 2 or 3


@dataclass(frozen=True, slots=True)
class PrmFormat:
    """How a problem and its steps become token ids, and how the output of the model becomes scores.

    `build` names how the ids are made; `{problem}` in `prompt` is replaced by the problem:

        text     prompt + step 1 + tag + between + step 2 + tag + ..., tokenised as one text
        chat     the model's chat template: user: prompt, assistant: step 1 + tag + between + step 2 + tag ...
        turns    the same with user: prompt + step 1 + tag, assistant: good, user: step 2 + tag, ...
        pieces   prompt, steps and tags tokenised one by one, after the tokenizer's bos if it has one

    A step is scored at the tag after it (if the tag is empty, at the step's last token), in turns at the
    answer `good`; `offset` moves that place by a number of tokens. `kind` names the output there and how it
    becomes a score in [0, 1]:

        token    logits of a language model: softmax over the words `good` and `bad`, probability of `good`
        head     logits of `num_labels` classes: softmax, summed over the classes `labels`
        value    one number: its sigmoid
    """

    name: str
    prompt: str
    tag: str
    good: str = ""
    bad: str = ""
    between: str = ""
    kind: Literal["token", "head", "value"] = "token"
    build: Literal["text", "chat", "turns", "pieces"] = "text"
    system: str = ""  # system turn of a chat; empty: none
    chat_template: str = ""  # Jinja, for a model without one: that of the published models
    num_labels: int = 2
    labels: tuple[int, ...] = (1,)
    offset: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError if fields contradict each other."""
        if "{problem}" not in self.prompt:
            raise UsageError("'prompt' must contain {problem}")
        if self.kind == "token" and not (self.good and self.bad):
            raise UsageError("kind token needs 'good' and 'bad'")
        if not 1 <= self.num_labels <= MAX_CLASSES:
            raise UsageError(f"'num_labels' is {self.num_labels:,}, not in 1 .. {MAX_CLASSES:,}")
        if self.kind == "head" and not set(self.labels) < set(range(self.num_labels)):
            raise UsageError(
                f"'labels' must be some of the {self.num_labels} classes, 0 .. {self.num_labels - 1}"
            )
        if self.kind == "head" and not self.labels:
            raise UsageError("kind head needs 'labels', the classes that mean good")
        if self.build == "turns" and not self.good:
            raise UsageError("build turns needs 'good', the assistant's answer")
        if self.build in ("text", "chat") and not self.tag:
            raise UsageError(f"build {self.build} needs a 'tag'")

    def fill(self, problem: str) -> str:
        """Return the prompt for one problem; braces in the problem have no meaning."""
        return self.prompt.replace("{problem}", problem)

    def render(self, problem: str, steps: Sequence[str]) -> tuple[str, list[int]]:
        """Return the text, and for each step the index of the last character of its tag.

        The ends are counted, never searched for, so a problem or step may contain the text of the tag.

        >>> PrmFormat("er-prm", "{problem} ", " ки", " +", " -").render("Why?", ["So.", "Thus."])
        ('Why? So. киThus. ки', [10, 18])
        """
        return self.join(steps, self.fill(problem))

    def join(self, steps: Sequence[str], before: str = "") -> tuple[str, list[int]]:
        """Return the same as `render` for the steps alone, after the text `before`."""
        text, tag_ends = before, []
        for number, step in enumerate(steps):
            text += (self.between if number else "") + step + self.tag
            tag_ends.append(len(text) - 1)
        return text, tag_ends


def load_prm_format(name: str) -> PrmFormat:
    """Return the shipped format `name`, or the one in a .toml file. Raises UsageError if it is invalid."""
    return _read(name)[0]


def known_format(model: str) -> str | None:
    """Return the name of the format of a public PRM, known by its name on the Hub or of a copied folder.

    >>> known_format("peiyi9979/math-shepherd-mistral-7b-prm")
    'math-shepherd'
    """
    own_name = PurePosixPath(model).name
    for name in shipped.names("prm"):
        if any(own_name == PurePosixPath(hub).name or fnmatch(model, hub) for hub in _read(name)[1]):
            return name
    return None


def _read(name: str) -> tuple[PrmFormat, tuple[str, ...]]:
    """Return a format and the Hub names (with * and ?) of the models that use it."""
    path = shipped.template_path("prm", name, "PRM format")
    table = read_toml(path)
    models = typed(table.pop("models", []), tuple[str, ...], str(path), "models")
    return from_table(PrmFormat, table, str(path), name=path.stem), models
