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
        raise UsageError(f"{source}: a dataset name is {SYNTAX}")
    return HubName(match["path"], match["config"], match["split"], match["revision"])


def hub_lines(source: str) -> Iterator[bytes]:
    """Yield the rows of a dataset as lines, streamed; UserError if it cannot be loaded."""
    wanted = parse_hub_name(source)
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(
            wanted.path, wanted.name, split=wanted.split, revision=wanted.revision, streaming=True
        )
        yield from _lines(rows, source)
    except (OSError, ValueError) as error:  # no such dataset, configuration, split; no network
        raise UserError(f"{source}: {_first_line(error)}") from None


def parquet_lines(path: str) -> Iterator[bytes]:
    """Yield the rows of a parquet file as lines, with one batch in memory; UserError if it cannot be read."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise UserError(f"{path}: the column {twice!r} occurs twice; rename one of them")
            batches = file.iter_batches(BATCH_ROWS)
            yield from _lines((row for batch in batches for row in batch.to_pylist()), path)
    except (OSError, ValueError, OverflowError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: {_first_line(error)}") from None


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
