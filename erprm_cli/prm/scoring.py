"""Rows with scores: read with the rows, or from a PRM that is loaded when the first row needs it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import check_server, commits, local_engine, provenance
from erprm_cli.engines.plan import report_plan
from erprm_cli.errors import UsageError, UserError
from erprm_cli.hashing import fields_hash
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.content import Content
from erprm_cli.io.output import Output
from erprm_cli.io.reading import read_rows
from erprm_cli.models.folder import CARD
from erprm_cli.models.names import find_model
from erprm_cli.options import EngineName, LocalEngineName
from erprm_cli.packages import MODELS, check_packages
from erprm_cli.prm.card import prm_format_of, read_card
from erprm_cli.prm.formats import load_prm_format
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row, to_line
from erprm_cli.rows.sharding import Shard
from erprm_cli.rows.streams import peek
from erprm_cli.rows.versions import one_version
from erprm_cli.terminal.reporter import Reporter

if TYPE_CHECKING:
    from erprm_cli.prm.step_scorer import StepScorer
    from erprm_cli.prm.tagger import Tagged

SCORES_REMEDY = "`erprm score` writes them, or --prm MODEL adds them here"
NO_SCORES = f"no 'scores'; {SCORES_REMEDY}"

Check = Callable[[Row], Row]
Expand = Callable[[Row], Iterable[Row]]


class LazyScorer:
    """A PRM that is loaded by the first row that it is to score, so an empty input needs no model."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        batch_tokens: int = 0,
        prm_format: str | None = None,
        eta: float | None = None,
    ) -> None:
        """Take the arguments of `open_scorer`.

        Raises UserError at once for a model that is nowhere, an invalid format or a missing package; what
        a server has is asked with the first row.
        """
        check_server(config)
        if config.base_url is None or config.dry_run:
            check_packages([*MODELS, *["vllm"] * (config.engine == "vllm")], f"the PRM {config.model}")
            find_model(config.model, config.revision)
        if prm_format is not None:
            load_prm_format(prm_format)
        self.config, self.prm_format = config, prm_format
        self.on_load: Callable[[StepScorer], object] = lambda _: None  # called with the loaded scorer
        self._arguments = config, batch_tokens, prm_format, eta

    @cached_property
    def scorer(self) -> "StepScorer":
        """The PRM, loaded at the first access."""
        scorer = open_scorer(*self._arguments)
        self.on_load(scorer)
        return scorer

    def check(self) -> None:
        """Raise UserError for a PRM that could not be loaded, as far as its files tell; see `check_prm`."""
        if self.config.base_url is None:
            from erprm_cli.prm.loading import check_prm  # torch

            check_prm(self.config, self.prm_format)

    def commits(self) -> Row:
        """Return the commits of the loaded PRM, for the sidecar of rows that another model made with it."""
        return {f"prm_{name}": value for name, value in commits(self.scorer, self.config).items()}

    def read(
        self,
        source: str,
        check: Callable[[Row], Row | None],
        bad: BadRows | None = None,
        limit: int | None = None,
        expand: Expand | None = None,
        reporter: Reporter | None = None,
    ) -> Iterator[Row]:
        """Yield the rows of `source` (see read_rows) with `scores`.

        A row for which `check` returns None is left out. One that cannot be scored, such as a solution longer
        than the context of the PRM, is a bad row.
        """
        bad = bad or BadRows()

        def failed(row: Row, error: UserError) -> None:
            place = ", ".join(f"{name} {row[name]!r}" for name in ("id", "sample") if name in row)
            bad.add(place, str(error), to_line(row), type(error))

        def encode(row: Row) -> "tuple[Row, Tagged] | None":
            checked = check(row)
            return None if checked is None else (checked, self.scorer.encode(checked))

        reporter = reporter or Reporter("score", quiet=True)
        found = filter(None, read_rows(source, encode, bad, limit, expand, reporter))
        encoded = peek(reporter.counted(found))
        if encoded is not None:
            self.scorer.on_failure = failed
            yield from self.scorer.score_encoded(encoded)

    def report_format(self, scorer: "StepScorer", reporter: Reporter) -> None:
        """Report with which format the PRM is read, and why."""
        why = f"from its {CARD}" if scorer.card is not None else "known by its name"
        why = scorer.format_source or (why if self.prm_format is None else "--prm-format")
        reporter.info(f"{scorer.name} is read with the format {scorer.format_name} ({why})")

    def plan(self) -> Row:
        """Return what was counted in a dry run; nothing if there was no row to score."""
        scorer = self.__dict__.get("scorer")
        return scorer.plan() if scorer is not None else {}

    def close(self) -> None:
        """Free the model if one was loaded."""
        if "scorer" in self.__dict__:
            self.scorer.close()


def output_settings(config: EngineConfig, prm_format: str | None, eta: float | None = None) -> Row:
    """Return the settings of an output of scores, by which a later run may continue it; see `score_to`."""
    name = config.model
    contents: Row
    if config.base_url is not None:
        from erprm_cli.prm.server_scorer import served_hash  # here, because it loads the client

        contents = {"prm_content": Content(lambda: served_hash(config, prm_format))}
    else:
        format_content = Content(lambda: fields_hash(prm_format_of(name, read_card(name), prm_format)))
        contents = {"prm_content": config.content(), "prm_format_content": format_content}
    return {
        "command": "score",
        "prm": name,
        "prm_format": prm_format,
        "revision": config.revision,
        "eta": None if eta is None else str(eta),  # JSON has no inf
        **contents,
        **config.settings(),
    }


def score_to(
    out: Output,
    source: str,
    prm: LazyScorer,
    reporter: Reporter,
    *,
    bad: BadRows | None = None,
    limit: int | None = None,
    shard: Shard | None = None,
    names: FieldNames | None = None,
) -> None:
    """Write to `out` the solutions of `source` that are not in it yet, with scores, and a summary.

    With `shard`, only rows whose id is in it are scored. `names` finds fields under other names. The caller
    opens `out`, with the settings by which a later run may continue it. `prm` is closed at the end.
    """
    done = out.solutions(schema.check_scores)
    skipped = 0
    # A duplicate would seem to be done already when a stopped run is continued.
    check = one_version(schema.check_solution)

    def missing(row: Row) -> Row | None:
        nonlocal skipped
        done.check(check(row))
        if shard is not None and row["id"] not in shard:
            return None
        if (row["id"], row["sample"]) in done:
            skipped += 1
            return None
        return row

    def loaded(scorer: "StepScorer") -> None:
        out.add_provenance(provenance(scorer, prm.config))
        prm.report_format(scorer, reporter)
        reporter.start("solutions")

    foreign = ForeignRows(names=names)
    prm.on_load = loaded
    with closing(prm):
        for row in prm.read(source, missing, bad, limit, foreign, reporter):
            out.write(row)
            num_tokens = prm.scorer.num_tokens  # 0 if only the server knows
            rate = reporter.rate_of(num_tokens, "tokens") if num_tokens else ""
            reporter.progress(out.count, "solutions", note=rate)
        foreign.report(reporter)
        if prm.config.dry_run:
            counts = prm.plan()
            counts = {"solutions": out.count, "scored_before": skipped} | counts
            report_plan(counts, reporter, prm.config.tokens_per_s)
            return
        before = f", {skipped:,} were scored before" if skipped else ""
        reporter.info(f"{out.count:,} solutions scored{before}, {reporter.seconds:.1f} s")


class ScoredRows:
    """Reads rows with scores, of one file or of several; a PRM is loaded once there is a row for it."""

    def __init__(
        self,
        prm: str | None,
        check: Check,
        check_scored: Check,
        engine: LocalEngineName = "auto",
        prm_format: str | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        """Take scores from the rows, which `check_scored` checks, or from the PRM named `prm`.

        A PRM is run by `engine` and read with `prm_format` (default: its own), which is reported; it replaces
        scores that are in the rows, which `check` checks. Raises UsageError for `engine` or `prm_format`
        without a PRM.
        """
        if prm is None and (prm_format is not None or engine != "auto"):
            flag = "--engine" if prm_format is None else "--prm-format"
            raise UsageError(f"{flag} says how to run a PRM; --prm MODEL names it")
        self.reporter = reporter = reporter or Reporter("score", quiet=True)
        self.prm: LazyScorer | None = None
        if prm is not None:
            self.prm = scorer = LazyScorer(EngineConfig(prm, engine), prm_format=prm_format)

            def loaded(loaded_scorer: "StepScorer") -> None:
                scorer.report_format(loaded_scorer, reporter)
                reporter.start("solutions")

            scorer.on_load = loaded
        self.check, self.check_scored = check, check_scored

    def read(
        self, source: str, bad: BadRows, limit: int | None = None, expand: Expand | None = None
    ) -> Iterator[Row]:
        """Yield the rows of `source` (see read_rows) with `scores`."""
        if self.prm is None:
            return read_rows(source, self.check_scored, bad, limit, expand, self.reporter)
        return self.prm.read(source, self.check, bad, limit, expand, self.reporter)

    def close(self) -> None:
        """Free the model if one was loaded."""
        if self.prm is not None:
            self.prm.close()


def chosen_engine(config: EngineConfig) -> EngineName:
    """Return the engine that scores: the one that `config` names, or that auto stands for.

    A PRM for which vLLM is `Unsuitable` is scored by transformers after all, if vLLM was not named.
    """
    if config.engine != "auto":
        return config.engine
    return "server" if config.base_url is not None else local_engine()


def open_scorer(
    config: EngineConfig, batch_tokens: int = 0, prm_format: str | None = None, eta: float | None = None
) -> "StepScorer":
    """Load the PRM with the chosen engine, or connect to its server. Other arguments: see Scorer."""
    chosen = chosen_engine(config)
    if chosen == "server" and not config.dry_run:
        from erprm_cli.prm.server_scorer import open_server_scorer

        return open_server_scorer(config, prm_format, eta)
    if chosen == "vllm" and not config.dry_run:
        from erprm_cli.prm.vllm_classifier import Unsuitable
        from erprm_cli.prm.vllm_scorer import VllmScorer

        try:
            return VllmScorer(config, prm_format, eta)
        except Unsuitable:
            if config.engine == "vllm":
                raise
    from erprm_cli.prm.dry_scorer import DryScorer
    from erprm_cli.prm.scorer import Scorer

    return (DryScorer if config.dry_run else Scorer)(
        config.model,
        prm_format=prm_format,
        eta=eta,
        dtype=config.dtype,
        batch_tokens=batch_tokens,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        allow_pickle=config.allow_pickle,
    )
