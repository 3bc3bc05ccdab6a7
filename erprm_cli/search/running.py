"""The search of one problem: what it has asked for, and what it has used."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erprm_cli.errors import UserError
from erprm_cli.rows.row import Row
from erprm_cli.search.prefix import Extension, Prefix, Search


@dataclass(slots=True)
class Tokens:
    """Tokens that the search of one problem has used.

    `prompt` counts the prompt of each request of the policy, with the prefix that it continues, and `prm` all
    that the PRM has read. Of these, the `new` ones are those that a prefix cache cannot have: of the policy
    the problem once, of the PRM what follows the longest part that it had read before. Those of a PRM whose
    tokenizer only a server has are not counted.
    """

    prompt: int = 0
    prompt_new: int = 0
    generated: int = 0
    prm: int = 0
    prm_new: int = 0


@dataclass(slots=True, eq=False)
class Running:
    """A search that has begun. `prompt` is token ids, or what a server without a tokenizer here gets.

    `extended` are the answers to `asked`; `missing` of them are not there yet.
    """

    problem: Row
    search: Search
    prompt: Any
    round: int = 0
    asked: list[Extension] = field(default_factory=list)
    extended: dict[int, Prefix] = field(default_factory=dict)  # by slot
    missing: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    # What the PRM has read: token ids up to a tag, as bytes, and the score there; None while it is read.
    scores: dict[bytes, float | None] = field(default_factory=dict)
    first_read: NDArray[np.int32] | None = None  # the token ids of the first prefix that the PRM has read
    error: UserError | None = None  # why its prefixes could not be extended

    def ask(self, asked: list[Extension]) -> None:
        """Begin a round."""
        self.asked, self.extended, self.missing = asked, {}, len(asked)

    def answers(self) -> list[Prefix]:
        """Return what the round has given, in the order in which it was asked for."""
        return [self.extended[extension.slot] for extension in self.asked]
