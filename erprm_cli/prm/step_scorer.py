"""What every scorer is, wherever the process reward model runs: rows in, rows with scores out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

from erprm_cli.errors import Stopped, UserError
from erprm_cli.labels.estimator import relabel
from erprm_cli.prm.card import eta_learned
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rows.row import Row


def raise_failure(_: Row, error: UserError) -> None:
    """End the work at the first row that cannot be scored."""
    raise error


class StepScorer(ABC):
    """A process reward model that scores the steps of solutions."""

    format_source = ""  # who chose the format, if it was not the user or the model
    served_eta: float | None = None  # that of the labels which the scores estimate, if a server says so

    def __init__(self, name: str, card: Row | None = None, eta: float | None = None) -> None:
        """Prepare for the PRM `name` with this card (None: it has none).

        With `eta`, scores are turned into labels at that eta, taking P(good) as a success rate, or as a label
        at the eta that the card says the model was trained at.
        """
        self.name, self.card = name, card
        # An outcome reward model was trained at the last tag only; its outputs at other tags are meaningless.
        self.outcome_only = bool(card and card.get("settings", {}).get("outcome_only"))
        self.eta, self.eta_learned = eta, None if eta is None else eta_learned(name, card)
        self.num_tokens = 0  # scored so far
        # Called with an encoded row that cannot be scored after all, and why: a server may say so.
        self.on_failure: Callable[[Row, UserError], object] = raise_failure

    @abstractmethod
    def encode(self, row: Row) -> Tagged:
        """Prepare a solution row. Raises RowError if it cannot be scored."""

    @abstractmethod
    def score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Row]:
        """Do the same as `score` for rows with what `encode` returned for them."""

    def score(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield each solution row with `scores` (L floats in [0, 1]) and `prm`, in order.

        A model trained with --outcome-only scores whole solutions: every step gets that one score, so all
        aggregates but "prod" are equal.
        """
        return self.score_encoded((row, self.encode(row)) for row in rows)

    def scored(self, row: Row, values: list[float]) -> Row:
        """Return the row with the probabilities of its steps."""
        if self.outcome_only:
            values = values[-1:] * len(values)
        if self.eta is not None and self.eta_learned is not None:
            values = [relabel(value, self.eta_learned, self.eta) for value in values]
        return row | {"scores": values, "prm": self.name}

    def read(
        self, solutions: Sequence[tuple[Row, Tagged]], *, is_whole: bool = True
    ) -> list[Sequence[float | None]]:
        """Return P(good) of the steps of each solution.

        A solution that fails is passed to `on_failure`, and its list is empty. Unless `is_whole`, steps that
        this scorer has read before may be left out; they get None.
        """
        numbered = ((row | {"number": number}, tagged) for number, (row, tagged) in enumerate(solutions))
        found = {row["number"]: row["scores"] for row in self.score_encoded(numbered)}
        return [found.get(number, []) for number in range(len(solutions))]

    @property
    @abstractmethod
    def format_name(self) -> str:
        """The name of the format with which the PRM is read."""

    @abstractmethod
    def close(self) -> None:
        """Free the model and whatever runs it."""


def in_order(finished: Iterable[tuple[int, Row | None]]) -> Iterator[Row]:
    """Yield rows by their numbers 0, 1, ...: one that finishes early waits for those before it.

    None is a row that failed. If an error or a signal ends the work, the rows that wait come first.

    >>> list(in_order([(1, {"id": "b"}), (0, {"id": "a"}), (2, None)]))
    [{'id': 'a'}, {'id': 'b'}]
    """
    waiting: dict[int, Row | None] = {}
    next_number = 0
    try:
        for number, row in finished:
            waiting[number] = row
            while next_number in waiting:
                if (first := waiting.pop(next_number)) is not None:
                    yield first
                next_number += 1
    except (UserError, Stopped):
        yield from (row for _, row in sorted(waiting.items()) if row is not None)
        raise
