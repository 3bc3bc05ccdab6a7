"""One training example, and the Arrow files that hold them: written in blocks, read through memory maps.

`datasets` maps a file into memory, so 250,000 solutions cost only the memory of those that are read, and the
processes of a machine share it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS_PER_WRITE = 1000


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence: token ids [T], the positions [n] that are learned, their targets and weights [n].

    `is_right` is the outcome of a solution; None if it has none.
    """

    ids: NDArray[np.int32]
    positions: NDArray[np.int32]
    targets: NDArray[Any]
    weights: NDArray[np.float32]
    is_right: bool | None = None


class ExampleWriter:
    """Writes examples to an Arrow file, ROWS_PER_WRITE at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._rows: list[Example] = []
        self._stream: Any = None

    def write(self, example: Example) -> None:
        self._rows.append(example)
        self.count += 1
        if len(self._rows) >= ROWS_PER_WRITE:
            self._flush()

    def close(self) -> None:
        """Write what is left. Without any example, no file is made."""
        self._flush()
        if self._stream is not None:
            self._stream.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        import pyarrow as pa

        rows, self._rows = self._rows, []
        table = pa.table(
            {
                "ids": pa.array([row.ids for row in rows], pa.list_(pa.int32())),
                "positions": pa.array([row.positions for row in rows], pa.list_(pa.int32())),
                "targets": pa.array(
                    [row.targets for row in rows], pa.list_(pa.from_numpy_dtype(rows[0].targets.dtype))
                ),
                "weights": pa.array([row.weights for row in rows], pa.list_(pa.float32())),
                "is_right": pa.array([row.is_right for row in rows], pa.bool_()),
                "length": pa.array([len(row.ids) for row in rows], pa.int32()),
                "weight": pa.array([float(row.weights.sum()) for row in rows], pa.float64()),
            }
        )
        if self._stream is None:
            self._stream = pa.ipc.new_stream(str(self.path), table.schema)
        self._stream.write_table(table)


class Examples(Sequence[Example]):
    """The M examples of an Arrow file; `lengths` [M] in tokens and `weights` [M] are in memory."""

    def __init__(self, path: Path) -> None:
        from datasets import Dataset as ArrowDataset

        self._rows = ArrowDataset.from_file(str(path)).with_format("numpy")
        self.lengths: NDArray[np.int64] = np.asarray(self._rows["length"][:], np.int64)
        self.weights: NDArray[np.float64] = np.asarray(self._rows["weight"][:], np.float64)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        return self.take([index])[0]

    def take(self, indices: Sequence[int]) -> list[Example]:
        """Return the examples at `indices`."""
        found = self._rows[list(indices)]
        rights = [None if right is None else bool(right) for right in found["is_right"]]
        arrays = (found[name] for name in ("ids", "positions", "targets", "weights"))
        return [Example(*fields) for fields in zip(*arrays, rights, strict=True)]
