"""Adds labels to rows of rollouts: the entropy-regularized reward of every step.

Only the fields of `_RolloutsRow` are decoded. The labels are inserted before the closing brace of the line,
so every other field keeps its bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw, UnsetType

from erprm_cli.errors import RowError
from erprm_cli.labels.estimator import entropy_regularized, estimator_fields, label_of_rate
from erprm_cli.rows.row import Row, loads, parse_line, reason, to_line

if TYPE_CHECKING:
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.data_formats.foreign_rows import ForeignRows

LABEL_FIELDS = ("labels", "label_low", "label_high", "eta", "estimator")
ROLLOUTS = b'"rollouts":'
L_OR_O, R_TO_U = rb"\u006", rb"\u007"  # escaped letters: "\u0072ollouts" is the same field
SUCCESS, FAILURE = b"1.0", b"0.0"  # as `erprm rollout` writes them
MAX_TABLE_K = 128  # longer lists are decoded
NO_COUNTS = (
    "success rates without counts have no intervals; give 'successes' and 'trials', or label them without "
    "--intervals"
)


class _RolloutsRow(msgspec.Struct, gc=False):
    """The fields of a line that are decoded. The others are only checked to be JSON."""

    rollouts: Raw
    steps: list[Raw] | UnsetType = UNSET
    labels: Raw | UnsetType = UNSET
    label_low: Raw | UnsetType = UNSET
    label_high: Raw | UnsetType = UNSET
    eta: Raw | UnsetType = UNSET
    estimator: Raw | UnsetType = UNSET


class Labeller:
    """Adds `labels`, `eta` and `estimator` to rows, and counts rows and steps for the summary."""

    def __init__(self, eta: float, names: "FieldNames | None" = None, intervals: bool = False) -> None:
        """Label by the entropy-regularized reward at `eta`, any float but NaN.

        `names` finds fields under other names; with --field, lines are written anew. With `intervals`, also
        add `label_low` and `label_high`.
        """
        self.eta = eta
        self.intervals = intervals
        self.names = names
        self.rows = self.steps = 0
        self.foreign: ForeignRows | None = None  # set by the first row of another format
        self._estimator = estimator_fields(eta)
        self._after_labels = b"," + to_line(self._estimator)[1:]
        self._step_labels = _StepLabels(eta)
        self._decode = msgspec.json.Decoder(_RolloutsRow).decode

    def label(self, lines: Iterable[bytes], refuse: Callable[[bytes, str], None]) -> Iterator[bytes]:
        """Yield each line with its labels, newline included. Existing labels are replaced.

        `lines` are not blank. A line that cannot be labelled goes to `refuse`, with the reason.
        """
        decode, labels_of, after_labels = self._decode, self._step_labels.of_rollouts, self._after_labels
        for line in lines:
            if not line.endswith(b"}"):
                line = line.strip()
            try:
                if self.names is not None:
                    line = to_line(self.names.renamed(parse_line(line))).rstrip()
                if self.intervals:
                    raise ValueError  # they need more care
                row = decode(line)
                rollouts = bytes(row.rollouts)
                if (
                    line.find(ROLLOUTS) != len(line) - len(rollouts) - len(ROLLOUTS) - 1  # it is not the last
                    and line.count(b'"rollouts"') > 1
                    or L_OR_O in line
                    or R_TO_U in line
                ):
                    loads(line)  # of a field given twice, `_decode` takes the last
                labels = labels_of(rollouts)
                if row.steps is not UNSET and len(row.steps) != len(labels):
                    raise ValueError
                if not line.isascii():
                    line.decode()  # msgspec does not check the text that it skips
                if row.labels is not UNSET or row.eta is not UNSET or row.estimator is not UNSET:
                    line = _without_labels(line)
                elif row.label_low is not UNSET or row.label_high is not UNSET:
                    line = _without_labels(line)
            except (ValueError, RecursionError, RowError):  # msgspec's errors are ValueErrors
                try:
                    yield from self._label_checked(line)
                except RowError as error:
                    refuse(line, str(error))
            else:  # as in _label_checked, whose calls would take 3 % of the time
                self.rows += 1
                self.steps += len(labels)
                yield b"".join((line[:-1], b',"labels":[', b",".join(labels), b"]", after_labels))

    def summary(self) -> str:
        """Return the counts for people. K leaves out the last step, which has one reward, its outcome."""
        lengths = self._step_labels.lengths
        most = max(lengths, default=0)
        fewest = min(lengths - {1}, default=most)
        k = f"{most}" if fewest == most else f"{fewest} to {most}"
        return f"{self.rows:,} rows, {self.steps:,} steps, eta {self.eta:g}, K {k}"

    def _label_checked(self, line: bytes) -> Iterator[bytes]:
        """Yield the labelled rows of a line that needs more care; RowError says what is wrong with it."""
        from erprm_cli.rows import schema  # rollouts of `erprm rollout` never need them
        from erprm_cli.rows.success_rates import has_success_rates, success_rates

        row = parse_line(line)
        if row.get("rollouts") is None and has_success_rates(row):
            labels = [repr(label_of_rate(rate, self.eta)).encode() for rate in success_rates(row)]
        elif "rollouts" not in row and (labelled := self._label_rates(row)):
            for own in labelled:
                self._count(own["labels"])
                yield to_line(own)
            return
        else:
            rollouts = schema.check_rollouts(row)["rollouts"]
            labels = [b"null" if rewards is None else self._step_labels.of(rewards) for rewards in rollouts]
        bounds = self._bounds(row)
        self._count(labels)
        line = _without_labels(line)
        yield b"".join((line[:-1], b',"labels":[', b",".join(labels), b"]", bounds, self._after_labels))

    def _bounds(self, row: Row) -> bytes:
        """Return the fields of the intervals, if they are wanted; RowError if a row has no counts."""
        if not self.intervals:
            return b""
        from erprm_cli.labels.intervals import label_interval, label_intervals
        from erprm_cli.rows.success_rates import success_counts

        if row.get("rollouts") is not None:
            found = label_intervals(row["rollouts"], self.eta)
        elif row.get("successes") is not None:
            found = [label_interval(*counts, self.eta) for counts in zip(*success_counts(row), strict=True)]
        else:
            raise RowError(NO_COUNTS)
        ends = ([None if ends is None else ends[side] for ends in found] for side in (0, 1))
        low, high = map(msgspec.json.encode, ends)
        return b',"label_low":%b,"label_high":%b' % (low, high)

    def _label_rates(self, row: Row) -> list[Row]:
        """Return the rows of ours in a row of another format that has success rates, labelled from these.

        RowError if the format has no success rates; an empty list if the format is unknown.
        """
        from erprm_cli.data_formats.foreign_rows import ForeignRows
        from erprm_cli.data_formats.registry import detect_format  # our own rows never need it

        data_format = detect_format(row)
        if data_format is None or ("sample" in row and "steps" in row):
            return []
        if self.intervals:
            raise RowError(NO_COUNTS)
        self.foreign = self.foreign or ForeignRows(names=self.names)
        rows = self.foreign.of_format(row, data_format)
        if any(own.get("estimator") != "soft" for own in rows):
            raise RowError(
                f"no 'rollouts', and {data_format.name} has no success rates to label from; `erprm train` "
                "learns the labels that it has; `erprm convert` and then `erprm rollout` make rollouts"
            )
        return [
            own | {"labels": [label_of_rate(rate, self.eta) for rate in own["labels"]]} | self._estimator
            for own in rows
        ]

    def _count(self, labels: Sequence[object]) -> None:
        self.rows += 1
        self.steps += len(labels)


class _StepLabels:
    """Computes the labels of steps, as JSON, from the JSON of their rewards.

    lengths    how many rewards the steps had
    """

    def __init__(self, eta: float) -> None:
        self.eta = eta
        self.lengths: set[int] = set()
        self._tables: dict[int, list[bytes]] = {}  # by K: the labels of 0, 1, ... K successes
        self._by_wins: dict[bytes, list[bytes]] = {}  # the same by K failures as JSON, such as 0.0,0.0
        self._decode = msgspec.json.Decoder(list[float]).decode

    def of_rollouts(self, rollouts: bytes) -> list[bytes]:
        """Return the labels of all steps; ValueError if `rollouts` is not a list of lists of numbers.

        With every 1.0 replaced by 0.0, a step of successes and failures is a list of zeros. This tells the
        number of rewards without decoding them.
        """
        steps = _split(rollouts)
        by_wins = self._by_wins
        try:
            return [by_wins[step.replace(SUCCESS, FAILURE)][step.count(SUCCESS)] for step in steps]
        except KeyError:
            return [self._of_step(step) for step in steps]

    def of(self, rewards: list[float]) -> bytes:
        """Return the label of one step; ValueError if it has no rewards."""
        label = repr(entropy_regularized(rewards, self.eta)).encode()  # the fewest digits of the same float
        self.lengths.add(len(rewards))
        return label

    def _of_step(self, step: bytes) -> bytes:
        rewards = self._decode(b"[%b]" % step)
        k, wins = len(rewards), rewards.count(1.0)
        if k > MAX_TABLE_K or wins + rewards.count(0.0) < k or not k:
            return self.of(rewards)
        if k not in self._tables:
            self._tables[k] = [self.of([1.0] * n + [0.0] * (k - n)) for n in range(k + 1)]
        failures = step.replace(SUCCESS, FAILURE)
        if failures.split(b",") == [FAILURE] * k:  # not written in another way, such as 1
            self._by_wins[failures] = self._tables[k]
        return self._tables[k][wins]


def _split(rollouts: bytes) -> list[bytes]:
    """Return the rewards of each step: [[1.0,0.0],[1.0]] gives 1.0,0.0 and 1.0.

    ValueError if `rollouts` is not a list of lists. Whether these hold numbers is not checked.
    """
    rollouts = rollouts.replace(b" ", b"")
    if not (rollouts.startswith(b"[[") and rollouts.endswith(b"]]")):
        raise ValueError
    return rollouts[2:-2].split(b"],[")


def _without_labels(line: bytes) -> bytes:
    """Return a line without the fields that `label` writes. The others keep their bytes and order."""
    try:
        loads(line)  # first: of a duplicate field, msgspec takes the last
    except ValueError as error:
        raise RowError(reason(error)) from None
    fields = msgspec.json.decode(line, type=dict[str, Raw])
    return msgspec.json.encode({name: value for name, value in fields.items() if name not in LABEL_FIELDS})
