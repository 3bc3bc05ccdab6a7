"""Rows of Hugging Face datasets and of parquet files, as JSON Lines.

hf://openai/gsm8k:main/test        repository, configuration, split
hf://HuggingFaceH4/MATH-500:test   the only configuration
hf://owner/name@revision:test      a given branch, tag or commit
hf:///data/folder:train            a local folder that `datasets` can load
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from erprm_cli.errors import UsageError, UserError

HUB = "hf://"
PARQUET = ".parquet"
SYNTAX = "hf://OWNER/NAME:SPLIT, or with a configuration and a revision hf://OWNER/NAME@REVISION:CONFIG/SPLIT"
NAME = re.compile(r"(?P<path>[^:]+?)(?:@(?P<revision>[^@:]+))?:(?:(?P<config>[^:]+)/)?(?P<split>[\w.-]+)")
BATCH_ROWS = 1_000


class HubName(NamedTuple):
    """The parts of an hf:// name, called as in datasets.load_dataset."""

    path: str
    name: str | None
    split: str
    revision: str | None


def parse_hub_name(source: str) -> HubName:
    """Return the parts of the hf:// name `source`; UsageError if it is not one.

    >>> parse_hub_name("hf://openai/gsm8k:main/test")
    HubName(path='openai/gsm8k', name='main', split='test', revision=None)
    """
    match = NAME.fullmatch(source.removeprefix(HUB))
    if match is None:
        raise UsageError(f"a dataset name is {SYNTAX}", where=source)
    return HubName(match["path"], match["config"], match["split"], match["revision"])


def dataset_on_hub(source: str) -> str | None:
    """Return OWNER/NAME if the rows of `source` come from a dataset of the Hub, not from a file or folder.

    >>> dataset_on_hub("hf://openai/gsm8k:main/test")
    'openai/gsm8k'
    """
    path = parse_hub_name(source).path if source.startswith(HUB) else ""
    return path if path.count("/") == 1 and not Path(path).exists() else None


class TableLines:
    """The rows of a data set of the Hub or of a parquet file, as lines of JSON in one pass.

    num_rows    None while it is unknown
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.num_rows: int | None = None
        self._num_read = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines, streamed, with one batch in memory; UserError if the rows cannot be loaded."""
        for line in self._of_hub() if self.source.startswith(HUB) else self._of_parquet():
            self._num_read += 1
            yield line

    def share_read(self) -> float | None:
        """Return the share of the rows that has been read; None if their number is unknown."""
        return self._num_read / self.num_rows if self.num_rows else None

    def _of_hub(self) -> Iterator[bytes]:
        wanted = parse_hub_name(self.source)
        import datasets

        datasets.disable_progress_bars()
        try:
            rows = datasets.load_dataset(
                wanted.path, wanted.name, split=wanted.split, revision=wanted.revision, streaming=True
            )
            split = (rows.info.splits or {}).get(wanted.split)  # what its README says
            self.num_rows = split and split.num_examples
            yield from _lines(rows, self.source)
        except (OSError, ValueError) as error:  # no such dataset, configuration, split; no network
            raise UserError(_first_line(error), where=self.source) from None

    def _of_parquet(self) -> Iterator[bytes]:
        import pyarrow
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(self.source) as file:
                names = file.schema_arrow.names
                twice = next((name for name in names if names.count(name) > 1), None)
                if twice is not None:
                    raise UserError(
                        f"the column {twice!r} occurs twice", where=self.source, remedy="rename one of them"
                    )
                self.num_rows = file.metadata.num_rows
                batches = file.iter_batches(BATCH_ROWS)
                yield from _lines((row for batch in batches for row in batch.to_pylist()), self.source)
        except (OSError, ValueError, OverflowError, pyarrow.ArrowException) as error:
            raise UserError(_first_line(error), where=self.source) from None


def _lines(rows: Iterable[dict[str, Any]], source: str) -> Iterator[bytes]:
    for number, row in enumerate(rows, start=1):
        try:
            line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError as error:  # bytes, such as an image
            raise UserError(
                f"{source}, row {number}: cannot be written as JSON ({error}); "
                "remove that column from the dataset"
            ) from None
        if b"null" in line and _has_non_finite(row):  # orjson writes NaN and infinity as null
            line = json.dumps(row, default=str).encode() + b"\n"  # as such, for the reader to refuse
        yield line


def _has_non_finite(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_non_finite, value.values()))
    if isinstance(value, list):
        return any(map(_has_non_finite, value))
    return isinstance(value, float) and not math.isfinite(value)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
