"""Rows with scores, whether they came with them or a PRM gives them on the way."""

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

NO_SCORES = "no 'scores'; `erprm score` writes them, or --prm MODEL makes them here"

Check = Callable[[Row], Row]


class ScoredRows:
    """Reads the rows of one file or of several; the PRM is loaded once there is a row for it."""

    def __init__(
        self,
        prm: str | None,
        check: Check,
        check_scored: Check,
        *key: str,
        engine: EngineName = EngineName.auto,
        form: str | None = None,
    ) -> None:
        """Take scores from the rows, which `check_scored` checks, or from the model that `prm` names,
        which `engine` runs and which is read by the format `form` or its own.

        With `prm`, scores that are there are replaced, and `check` checks the rows. No two rows may have the
        same fields `key`, if any are named.
        """
        self.prm, self.engine, self.form = prm, engine, form
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
        """Yield the rows of `source`, which `expand` makes of what is there, with `scores`."""
        if self.prm is None:
            yield from read_rows(source, self.check_scored, bad, limit, expand)
            return
        encoded = peek(read_rows(source, self._encoded, bad, limit, expand))
        if encoded is not None:
            yield from self._scorer().score_encoded(encoded)

    def close(self) -> None:
        """Free the model, if one was loaded."""
        if self._scorer.cache_info().currsize:
            self._scorer().close()

    def _encoded(self, row: Row) -> "tuple[Row, Tagged]":
        row = self.check(row)
        return row, self._scorer().encode(row)

    def _load(self) -> "Scorer":
        from erprm_cli.prm.scoring import open_scorer  # torch

        assert self.prm is not None
        return open_scorer(EngineConfig(self.prm, self.engine), form=self.form)


def open_scorer(
    config: EngineConfig, batch_tokens: int = 0, form: str | None = None, eta: float | None = None
) -> "Scorer":
    """Load the PRM behind the engine that `config` names; auto is transformers. `form`, `eta`: see Scorer."""
    if config.engine == "server":
        raise UsageError("a server does not score; --engine takes transformers or vllm here")
    if config.engine == "vllm":
        from erprm_cli.prm.vllm_scorer import VllmScorer

        return VllmScorer(config, form, eta)
    from erprm_cli.prm.scorer import Scorer  # torch

    return Scorer(
        config.model,
        form=form,
        eta=eta,
        dtype=config.dtype,
        batch_tokens=batch_tokens,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        allow_pickle=config.allow_pickle,
    )
