"""Rows with scores: read with the scores they have, or scored by a PRM while they are read."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows
from erprm_cli.options import EngineName
from erprm_cli.rows.row import Row
from erprm_cli.rows.streams import peek, unique

if TYPE_CHECKING:
    from erprm_cli.prm.scorer import Scorer
    from erprm_cli.prm.tagger import Tagged

NO_SCORES = "no 'scores'; `erprm score` writes them, or --prm MODEL adds them here"

Check = Callable[[Row], Row]


class ScoredRows:
    """Reads rows with scores from one or more files; a PRM is loaded only when the first row needs it."""

    def __init__(
        self,
        prm: str | None,
        check: Check,
        check_scored: Check,
        *key: str,
        engine: EngineName = EngineName.auto,
        prm_format: str | None = None,
    ) -> None:
        """Without `prm`, use the scores of the rows, which `check_scored` checks.

        With `prm`, check rows with `check` and score them with that model, in `engine` and with the format
        `prm_format` (default: its own); scores that rows have already are replaced. The fields `key`, if
        any, must be unique among the rows.
        """
        self.prm, self.engine, self.prm_format = prm, engine, prm_format
        self.check = unique(check, *key) if key else check
        self.check_scored = unique(check_scored, *key) if key else check_scored
        self._scorer = cache(self._load)

    def read(
        self,
        source: str,
        bad: BadRows,
        limit: int | None = None,
        expand: Callable[[Row], Iterable[Row]] | None = None,
    ) -> Iterator[Row]:
        """Yield the rows of `source` with `scores`; `expand` turns a row of the file into rows to score."""
        if self.prm is None:
            yield from read_rows(source, self.check_scored, bad, limit, expand)
            return
        encoded = peek(read_rows(source, self._encoded, bad, limit, expand))
        if encoded is not None:
            yield from self._scorer().score_encoded(encoded)

    def close(self) -> None:
        """Free the model if it was loaded."""
        if self._scorer.cache_info().currsize:
            self._scorer().close()

    def _encoded(self, row: Row) -> "tuple[Row, Tagged]":
        row = self.check(row)
        return row, self._scorer().encode(row)

    def _load(self) -> "Scorer":
        from erprm_cli.prm.scoring import open_scorer  # torch

        assert self.prm is not None
        return open_scorer(EngineConfig(self.prm, self.engine), prm_format=self.prm_format)


def open_scorer(
    config: EngineConfig, batch_tokens: int = 0, prm_format: str | None = None, eta: float | None = None
) -> "Scorer":
    """Return the PRM `config.model` in the engine that `config` names; "auto" is transformers.

    The other arguments are those of `Scorer`. Raises UsageError for an engine that cannot score.
    """
    if config.engine == "server":
        raise UsageError("a server cannot score; --engine must be transformers or vllm here")
    if config.engine == "vllm":
        from erprm_cli.prm.vllm_scorer import VllmScorer

        return VllmScorer(config, prm_format, eta)
    from erprm_cli.prm.scorer import Scorer  # torch

    return Scorer(
        config.model,
        prm_format=prm_format,
        eta=eta,
        dtype=config.dtype,
        batch_tokens=batch_tokens,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        allow_pickle=config.allow_pickle,
    )
