"""Fields under other names: those of --field, and the usual ones. What was read as what is told once."""

from collections.abc import Callable, Iterable

import orjson

from erprm_cli.errors import RowError, UsageError
from erprm_cli.rows.kinds import field_types, is_text
from erprm_cli.rows.row import Row
from erprm_cli.rows.schema import fields_of

# Names that data sets use, tried in this order where a row lacks the field itself.
USUAL = {
    "id": ("unique_id",),
    "problem": ("question", "query", "prompt", "problem_text", "problem_statement"),
    "answer": (
        *("gold", "gold_answer", "target", "ground_truth", "ground_truth_answer", "final_answer"),
        *("expected_answer", "reference_answer", "correct_answer"),
    ),
}


class FieldNames:
    """Finds the fields of rows under other names and tells what it found, each once."""

    def __init__(
        self, flags: Iterable[str] | None = None, tell: Callable[[str], None] = lambda message: None
    ) -> None:
        """Read OTHER as NAME for each NAME=OTHER in `flags`; `tell` gets one line for people.

        Raises UsageError if a flag is not NAME=OTHER, or NAME is not a field of erprm.
        """
        self.given: dict[str, str] = {}
        self.tell = tell
        self._told: set[str] = set()
        for flag in flags or ():
            name, equals, other = flag.partition("=")
            if not equals or not other:
                raise UsageError(f"--field {flag}: give NAME=OTHER, such as answer=gold")
            if name not in field_types():
                raise UsageError(
                    f"--field {flag}: rows have no field {name!r}; fields: {', '.join(field_types())}"
                )
            if self.given.setdefault(name, other) != other:
                raise UsageError(f"--field {name} is given twice, as {self.given[name]} and {other}")

    def settings(self) -> Row:
        """Return the setting to record with an output: none without --field."""
        return {"field": self.given} if self.given else {}

    def renamed(self, row: Row) -> Row:
        """Return `row` with the fields of --field under their names. What they replace is kept as original_*.

        Raises RowError if the row has neither of the two fields.
        """
        made = dict(row) if self.given else row
        for name, other in self.given.items():
            if other not in row:
                if row.get(name) is None:
                    raise RowError(
                        f"no '{other}', which --field {name}={other} reads; its fields are {fields_of(row)}"
                    )
                continue
            value, before = row[other], row.get(name)
            if isinstance(value, str) and not is_text(name):
                value = _from_json(value)
            if before is not None and before != value:
                made[f"original_{name}"] = before
            made[name] = value
        return made

    def find(self, row: Row, name: str, kind: type = object) -> str:
        """Return under which name `row` has a field of type `kind` that is not empty; `name` if it has none.

        >>> FieldNames().find({"gold": "5", "answer": None}, "answer")
        'gold'
        """
        others = (name, *USUAL[name])
        return next(
            (other for other in others if is_given(row.get(other)) and isinstance(row[other], kind)), name
        )

    def note_read(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Tell which field was read as which, (OTHER, NAME) for each pair that was not told before."""
        self._note(f"'{other}' is read as '{name}'" for other, name in pairs if other != name)

    def note_derived(self, names: Iterable[str]) -> None:
        """Tell which fields were derived, each once."""
        self._note(f"'{name}' is derived" for name in names)

    def _note(self, messages: Iterable[str]) -> None:
        new = [message for message in dict.fromkeys(messages) if message not in self._told]
        if new:
            self._told.update(new)
            self.tell(", ".join(new))


def is_given(value: object) -> bool:
    """Return whether a value says something: it is neither null nor blank text."""
    return value is not None and not (isinstance(value, str) and not value.strip())


def _from_json(text: str) -> object:
    try:
        return orjson.loads(text)
    except ValueError:
        return text  # the check of the row says what it should be
