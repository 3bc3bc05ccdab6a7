"""Reasoning and answer: the two parts of what a thinking model writes, told apart by the marks of its format.

A completion is `opening` + reasoning + `closing` + answer. Whitespace belongs to the parts, so that joining
them gives the text that the model wrote. The opening mark is often the end of the prompt.
"""

from dataclasses import dataclass
from os.path import commonprefix
from typing import NamedTuple

from erprm_cli.engines.base import Completion
from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import prefixes, stepped_text


@dataclass(frozen=True, slots=True)
class Marks:
    """The texts around the reasoning in one format.

    `unthought` begins an answer without reasoning. `are_special` says that the marks are special tokens,
    which a server drops from its answers unless it is asked not to.
    """

    opening: str
    closing: str
    unthought: str = ""
    are_special: bool = True

    def begins_message(self, text: str) -> bool:
        """Return whether a text begins with a message of this format, of whatever channel."""
        begin = commonprefix((self.opening, self.unthought))
        return bool(begin) and text.startswith(begin)


class Parts(NamedTuple):
    """The parts of a completion. `reasoning` is None without any; `answer` is None if the thought is open."""

    reasoning: str | None
    answer: str | None


MARKS = {
    "think": Marks("<think>", "</think>", are_special=False),  # Qwen, DeepSeek and most others
    "mistral": Marks("[THINK]", "[/THINK]"),  # Magistral
    # gpt-oss, https://github.com/openai/harmony: each message names its channel
    "harmony": Marks(
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|channel|>final<|message|>",
    ),
}


def split(text: str, marks: Marks | None, is_open: bool = False) -> Parts:
    """Return the parts of a completion; with `is_open`, the prompt already has the opening mark.

    Text before the opening mark must be whitespace and is dropped. The first closing mark counts.

    >>> split("<think>2 + 3</think>5", MARKS["think"])
    Parts(reasoning='2 + 3', answer='5')
    >>> split("2 + 3", MARKS["think"], is_open=True)
    Parts(reasoning='2 + 3', answer=None)
    """
    if marks is None:
        return Parts(None, text)
    begun = text.lstrip()
    is_marked = begun.startswith(marks.opening)
    inside = begun.removeprefix(marks.opening) if is_marked else text
    reasoning, closing, answer = inside.partition(marks.closing)
    if closing:
        return Parts(reasoning, answer)
    if is_open or is_marked:
        return Parts(inside, None)
    if marks.unthought and begun.startswith(marks.unthought):
        return Parts(None, begun.removeprefix(marks.unthought))
    if marks.begins_message(begun):  # of another channel, such as a tool call
        return Parts(begun, None)
    return Parts(None, text)


def read(completion: Completion, marks: Marks | None, is_open: bool | None) -> Parts:
    """Return the parts of a completion: those that a server sends apart, else those between the marks.

    `is_open` is None if the server renders the prompt, so that it is unknown whether the prompt has the
    opening mark. A completion without marks is then an answer, or an open thought if it was cut off.
    """
    if completion.reasoning is not None:
        return Parts(completion.reasoning, completion.text or None)
    if is_open is None:
        is_open = completion.finish_reason == "length"
    return split(completion.text, marks, is_open)


def join(parts: Parts, marks: Marks | None) -> str:
    """Return the completion with these parts, the opening mark included: the inverse of `split`.

    >>> join(Parts("2 + 3", "5"), MARKS["mistral"])
    '[THINK]2 + 3[/THINK]5'
    """
    reasoning, answer = parts
    if marks is None:
        return answer or ""
    if reasoning is None:
        return marks.unthought + (answer or "")
    opening = "" if marks.begins_message(reasoning) else marks.opening
    return opening + reasoning + ("" if answer is None else marks.closing + answer)


def is_opened(prompt: str, marks: Marks | None) -> bool:
    """Return whether a rendered prompt ends with the opening mark, so that the model goes on with reasoning.

    >>> is_opened("<|User|>2 + 3?<|Assistant|><think>\\n", MARKS["think"])
    True
    """
    return marks is not None and prompt.rstrip().endswith(marks.opening)


def continued(prompt: str, text: str, marks: Marks | None) -> str:
    """Return `text`, a completion or the beginning of one, as it follows the prompt.

    After a prompt that has the opening mark, `text` goes on without it, or closes the empty thought.

    >>> [continued("<think>\\n", text, MARKS["think"]) for text in ("<think>2 +", "5")]
    ['2 +', '</think>5']
    """
    if marks is None or not is_opened(prompt, marks):
        return text
    inside = text.removeprefix(marks.opening)
    return inside if inside != text else marks.closing + text.removeprefix(marks.unthought)


def written(row: Row, marks: Marks | None) -> str:
    """Return the completion that a solution row was made of, the opening mark included."""
    is_unclosed = not row["solution"] and row.get("finish_reason") == "length"
    return join(Parts(row.get("reasoning"), None if is_unclosed else row["solution"]), marks)


def written_prefixes(row: Row, marks: Marks | None) -> list[str]:
    """Return the beginnings of the completion up to each step but the first; its steps may be of either part.

    >>> row = {"reasoning": "a", "solution": "b\\nc", "steps": ["b", "c"]}
    >>> written_prefixes(row, MARKS["think"])
    ['<think>a</think>b\\n']
    >>> written_prefixes({"reasoning": "a\\nb", "steps_of": "reasoning", "steps": ["a", "b"]}, MARKS["think"])
    ['<think>a\\n']
    """
    texts = prefixes(stepped_text(row), row["steps"])
    if row.get("steps_of") == "reasoning":
        return [join(Parts(text, None), marks) for text in texts]
    return [join(Parts(row.get("reasoning"), text), marks) for text in texts]


def check_marks(row: Row, marks: Marks | None) -> Row:
    """Raise RowError if a solution row has reasoning that cannot be continued, as there are no marks."""
    if row.get("reasoning") is not None and marks is None:
        raise RowError("'reasoning' needs a template of a thinking model, such as qwen3, to be continued")
    return row
