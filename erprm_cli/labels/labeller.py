"""Rows with rollouts in, the same rows with labels out: (ER) of every step, at the speed of reading.

Only `rollouts` is decoded. The labels are spliced in before the closing brace, so everything else in a line
stays byte for byte as it came.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import getitem
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from erprm_cli.errors import RowError, UserError
from erprm_cli.labels.estimator import entropy_regularized, estimator_name, eta_in_row, label_of_rate
from erprm_cli.rows import schema
from erprm_cli.rows.row import Ambiguous, Row, loads, parse_line, to_line

if TYPE_CHECKING:
    from erprm_cli.data_formats.foreign_rows import ForeignRows

OWN_FIELDS = ("labels", "eta", "estimator")
# The labels of a row of which it is still to be counted which they are: every second character of its
# rollouts, [1000,10] for [[1.0,0.0],[1.0]], and of each step what to write for 0, 1, ... successes.
Labels = tuple[bytes, Sequence[Sequence[bytes]]]
AS_COMMAS = bytes.maketrans(b"[]", b",,")
MAX_SHAPE_BYTES = 1 << 21
MAX_REMEMBERED = 20_000  # labels of steps whose text is at most
MAX_TEXT_BYTES = 256
MAX_TABLE_K = 256


class _Read(msgspec.Struct, gc=False):
    """What a line is read for; all its other fields are only checked to be JSON."""

    rollouts: Raw
    steps: list[Raw] | UnsetType = UNSET
    labels: Raw | UnsetType = UNSET
    eta: Raw | UnsetType = UNSET
    estimator: Raw | UnsetType = UNSET


class Labeller:
    """Adds `labels`, `eta` and `estimator` to the lines of one stream, and counts for the summary."""

    def __init__(self, eta: float) -> None:
        self.eta = eta
        self.rows = self.steps = 0
        self.foreign: ForeignRows | None = None  # once there is a row of another format
        self._labels = _StepLabels(eta)
        self._decode = msgspec.json.Decoder(_Read).decode

    def label(
        self, blocks: Iterable[Iterable[bytes]], refuse: Callable[[bytes, str], None]
    ) -> Iterator[bytes]:
        """Yield the lines of each block with labels, newlines included, in one piece; blank ones are skipped.

        Labels that a row already has are replaced. A line that is no rollouts row goes to `refuse`, with why;
        what it raises comes after the rows before that line.
        """
        for block in blocks:
            labelled = _Block()
            try:
                self._label_block(block, refuse, labelled)
            except UserError:
                yield self._counted(labelled)
                raise
            yield self._counted(labelled)

    def _counted(self, labelled: "_Block") -> bytes:
        self.rows += labelled.rows
        self.steps += labelled.steps
        return labelled.joined()

    def _label_block(
        self, block: Iterable[bytes], refuse: Callable[[bytes, str], None], labelled: "_Block"
    ) -> None:
        decode, labels_of, add = self._decode, self._labels.of_json, labelled.add
        for line in block:
            if not line.endswith(b"}"):
                line = line.strip()
                if not line:
                    continue
            try:
                row = decode(line)
                labels = labels_of(bytes(row.rollouts))
                if row.steps is not UNSET and len(row.steps) != len(labels[1]):
                    raise ValueError
                if not line.isascii():
                    line.decode()  # msgspec does not look into the fields it skips
                if row.labels is not UNSET or row.eta is not UNSET or row.estimator is not UNSET:
                    line = _without_own_fields(line)
                add(line[:-1], labels)
            except (ValueError, RecursionError, RowError):  # ValueErrors: msgspec's, UnicodeDecodeError
                try:
                    parsed = parse_line(line)
                    if "rollouts" not in parsed and (made := self._of_rates(parsed)):
                        for own in made:
                            add(to_line(own), _known([b""] * len(own["labels"])))
                        continue
                    labels = self._judge(parsed)
                    add(_without_own_fields(line)[:-1], labels)
                except RowError as error:
                    refuse(line, str(error))

    def summary(self) -> str:
        """Return what was done, for people. K counts the rollouts of a step but the last, which has none."""
        few, most = self._labels.fewest or self._labels.most, self._labels.most
        k = f"{most}" if few == most else f"{few} to {most}"
        return f"{self.rows:,} rows, {self.steps:,} steps, eta {self.eta:g}, K {k}"

    def _of_rates(self, row: Row) -> list[Row]:
        """Return our rows of a foreign one, labelled from the success rates that it has for rollouts.

        RowError if it has none; nothing if it is of no known format.
        """
        from erprm_cli.data_formats.foreign_rows import ForeignRows
        from erprm_cli.data_formats.registry import format_of  # our own rows never need it

        form = format_of(row)
        if form is None or ("sample" in row and "steps" in row):
            return []
        self.foreign = self.foreign or ForeignRows()
        rows = self.foreign.of_format(row, form)
        if any(own.get("estimator") != "soft" for own in rows):
            raise RowError(
                f"no 'rollouts', and {form.name} has no success rates to label from; `erprm train` "
                "learns the labels that it has; `erprm convert` and then `erprm rollout` make rollouts"
            )
        fields = {"eta": eta_in_row(self.eta), "estimator": estimator_name(self.eta)}
        return [
            own | {"labels": [label_of_rate(rate, self.eta) for rate in own["labels"]]} | fields
            for own in rows
        ]

    def _judge(self, row: Row) -> Labels:
        """Return the labels of a row the slow way, which says what is wrong with it if anything is."""
        row = schema.rollouts(row)
        return self._labels.in_place([self._labels.of(rewards) for rewards in row["rollouts"]])


class _Block:
    """Labelled lines on their way out, whose successes are counted for all their steps in one go.

    digits     of each row
    choices    of each row its line as far as the labels, then of each step what may follow, by its successes
    """

    def __init__(self) -> None:
        self.digits: list[bytes] = []
        self.choices: list[Sequence[bytes]] = []

    def add(self, text: bytes, labels: Labels) -> None:
        """Add a row: its line as far as the labels, and these."""
        digits, choices = labels
        self.digits.append(digits)
        self.choices.append((text,))
        self.choices += choices

    @property
    def rows(self) -> int:
        return len(self.digits)

    @property
    def steps(self) -> int:
        return len(self.choices) - len(self.digits)

    def joined(self) -> bytes:
        """Return all lines in one piece."""
        ones = b"".join(self.digits).translate(AS_COMMAS, b"0").split(b",")  # [1000,10] -> "", 1, 1
        return b"".join(map(getitem, self.choices, map(len, ones)))


class _Shape(NamedTuple):
    """What `rollouts` of certain lengths look like when all rewards are 0.0 or 1.0."""

    zeros: int  # every second character, where all are 0.0, as one number
    fixed: int  # the bits of it that no 1.0 changes
    by_wins: list[list[bytes]]  # of each step, its label as it stands in the line


class _StepLabels:
    """From the rewards of steps to their labels as JSON, by tables wherever rewards are 0.0 and 1.0.

    fewest, most    rollouts of a step so far; a single one is the last step's outcome, and no fewest
    """

    def __init__(self, eta: float) -> None:
        self.eta = eta
        self.fewest = self.most = 0
        fields: Row = {"eta": eta_in_row(eta), "estimator": estimator_name(eta)}
        self._end = b"]," + to_line(fields)[1:]
        self._tables: dict[tuple[int, bool, bool], list[bytes]] = {}
        self._shapes: dict[bytes, _Shape] = {}
        self._shape_bytes = 0
        self._by_text: dict[bytes, bytes] = {}  # one step's rewards -> its label
        self._decode = msgspec.json.Decoder(list[float]).decode

    def of_json(self, rollouts: bytes) -> Labels:
        """Return the labels of all steps; ValueError unless `rollouts` is a JSON list of lists of numbers.

        In [[1.0,0.0],[1.0]] every second character is a point, or a bracket or comma by a number, and tells
        the shape; the others are digits but for a comma between two steps. If they differ from those of
        [[0.0,0.0],[0.0]] in first digits alone, and there as 1 from 0, counting the 1s counts the successes.
        """
        shape = self._shapes.get(rollouts[1::2])
        if shape is None:
            rollouts = rollouts.replace(b" ", b"")  # what has blanks in more than numbers fails below as ever
            shape = self._shape_of(rollouts)
        if shape is not None:
            digits = rollouts[::2]
            if not (int.from_bytes(digits, "little") ^ shape.zeros) & shape.fixed:
                return digits, shape.by_wins
        return self.in_place([self._of_text(rewards) for rewards in _split_lists(rollouts)])

    def in_place(self, labels: Sequence[bytes]) -> Labels:
        """Return labels as they stand in a line, with what is before the first and after the last."""
        last = len(labels) - 1
        return _known([self._placed(label, i == 0, i == last) for i, label in enumerate(labels)])

    def _placed(self, label: bytes, is_first: bool, is_last: bool) -> bytes:
        return (b',"labels":[' if is_first else b",") + label + (self._end if is_last else b"")

    def of(self, rewards: list[float]) -> bytes:
        """Return the label of one step; ValueError if (ER) is not defined."""
        k = len(rewards)
        if k > 1:
            self.fewest = min(self.fewest or k, k)
        self.most = max(self.most, k)
        # The shortest digits that give the same float, and always a float: 0.0
        return repr(entropy_regularized(rewards, self.eta)).encode()

    def _of_text(self, text: bytes) -> bytes:
        label = self._by_text.get(text)
        if label is None:
            label = self.of(self._decode(b"[%b]" % text))
            if len(self._by_text) == MAX_REMEMBERED:
                self._by_text.clear()
            if len(text) <= MAX_TEXT_BYTES:
                self._by_text[text] = label
        return label

    def _shape_of(self, rollouts: bytes) -> _Shape | None:
        """Return the shape of `rollouts`, or None if rewards of 0.0 and 1.0 would look otherwise."""
        key = rollouts[1::2]
        if key in self._shapes:
            return self._shapes[key]
        lengths = [text.count(b",") + 1 for text in _split_lists(rollouts)]
        zeros = _alike(b"0.0", lengths)
        full = self._shape_bytes + len(zeros) > MAX_SHAPE_BYTES
        if full or max(lengths) > MAX_TABLE_K or zeros[1::2] != key or len(zeros) != len(rollouts):
            return None
        last = len(lengths) - 1
        by_wins = [self._table(k, step == 0, step == last) for step, k in enumerate(lengths)]
        low = int.from_bytes(zeros[::2], "little")
        changed = low ^ int.from_bytes(_alike(b"1.0", lengths)[::2], "little")
        fixed = changed ^ ((1 << 4 * len(zeros) + 4) - 1)
        shape = self._shapes[key] = _Shape(low, fixed, by_wins)
        self._shape_bytes += len(zeros)
        return shape

    def _table(self, k: int, is_first: bool, is_last: bool) -> list[bytes]:
        """Return the labels of 0 .. k successes in k rollouts, as they stand in a line."""
        table = self._tables.get((k, is_first, is_last))
        if table is None:
            labels = [self.of([1.0] * wins + [0.0] * (k - wins)) for wins in range(k + 1)]
            table = [self._placed(label, is_first, is_last) for label in labels]
            self._tables[k, is_first, is_last] = table
        return table


def _known(labels: Sequence[bytes]) -> Labels:
    """Return labels of which nothing is left to be counted."""
    return b"[%b]" % (b"," * (len(labels) - 1)), [(label,) for label in labels]


def _alike(reward: bytes, lengths: list[int]) -> bytes:
    """Return the JSON of `rollouts` in which every reward is the same."""
    return b"[[%b]]" % b"],[".join(b",".join([reward] * k) for k in lengths)


def _split_lists(text: bytes) -> list[bytes]:
    """Return what stands in each list of the JSON array `text`, if it is one of lists of numbers.

    Anything else gives ValueError, or parts that are no numbers.
    """
    if not (text.startswith(b"[[") and text.endswith(b"]]")):
        raise ValueError
    return text[2:-2].split(b"],[")


def _without_own_fields(line: bytes) -> bytes:
    """Return an object's line without the fields that `label` writes; the others keep bytes and order."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, Raw])
        loads(line)  # a field that is there twice would be lost
    except Ambiguous as error:
        raise RowError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON: {error}") from None
    return msgspec.json.encode({name: value for name, value in fields.items() if name not in OWN_FIELDS})
