"""Score with a process reward model behind an HTTP server: `erprm serve`, or vLLM's /pooling.

Which of the two it is, is found out by asking it for GET /v1/prm. `erprm serve` gets problems and steps. vLLM
gets token ids, made here with the model's tokenizer and format, and returns the probabilities of all tokens;
those of the tags are selected here. A row is a request; servers make batches of them.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from erprm_cli import shipped
from erprm_cli.engines.base import Failure
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.in_flight import in_flight
from erprm_cli.engines.server_answers import ABOUT_LENGTH, ABOUT_MODEL
from erprm_cli.engines.server_client import Refused, RequestFailed, ServerClient, suggested_url
from erprm_cli.engines.server_connection import ServerConnection
from erprm_cli.engines.server_dialect import NO_ENDPOINT, PROBE, find_served
from erprm_cli.engines.server_failures import PROMPT_STATUS, Doubtful, blamed
from erprm_cli.errors import EngineError, UsageError, UserError
from erprm_cli.hashing import content_hash, fields_hash
from erprm_cli.prm.card import prm_format_of, read_card
from erprm_cli.prm.formats import PrmFormat
from erprm_cli.prm.server_answers import ServedPrm, read_pooling, read_prm, read_scores
from erprm_cli.prm.step_scorer import StepScorer, in_order
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A row that is scored. Like every object without an `eq`, it is equal to itself only."""

    number: int
    row: Row
    tagged: Tagged


class ServerScorer(StepScorer):
    """A scorer that asks a server; of each row that the server does not score, `on_failure` is told."""

    def __init__(
        self,
        connection: ServerConnection,
        config: EngineConfig,
        card: Row | None = None,
        eta: float | None = None,
    ) -> None:
        """Score with the PRM `config.model` through an open connection, which is closed with the scorer."""
        super().__init__(config.model, card, eta)
        self.concurrency = config.concurrency
        self._connection, self._client = connection, connection.client

    def score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Row]:
        """Yield scored rows in the order given; see `in_order`.

        A row is read when fewer than `concurrency` are in flight. EngineError if the server keeps failing,
        UserError if it refuses whatever is asked.
        """
        return in_order(self._score_encoded(solutions))

    def close(self) -> None:
        """Cancel the requests in flight and close the connections."""
        self._connection.close()

    def _score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[tuple[int, Row | None]]:
        def start(job: Job) -> Future[tuple[int, Row] | Failure]:
            return self._connection.portal.start_task_soon(self._score_one, job)

        jobs = (Job(number, row, tagged) for number, (row, tagged) in enumerate(solutions))
        # Closed here and not by the garbage collector: what is in flight ends with this generator.
        with closing(in_flight(jobs, start, self.concurrency)) as finished:
            for result in blamed(result for _, result in finished):
                if isinstance(result, Failure):
                    assert isinstance(result.key, Job)
                    self.on_failure(result.key.row, result.error)
                    yield result.key.number, None
                else:
                    yield result

    async def _score_one(self, job: Job) -> tuple[int, Row] | Failure:
        try:
            good_L = await self._ask(job)
        except RequestFailed as failure:
            return Doubtful(job, (), EngineError(str(failure)))
        except Refused as refusal:
            error = self._client.error(refusal)
            if ABOUT_LENGTH.search(refusal.reason):
                return Failure(job, (), error)
            if refusal.status in PROMPT_STATUS:
                return Doubtful(job, (), error)
            raise error from None
        if not np.isfinite(good_L).all():
            raise UserError(f"{self.name} produced NaN or infinite scores; its weights may be corrupt")
        return job.number, self.scored(job.row, good_L)

    @abstractmethod
    async def _ask(self, job: Job) -> list[float]:
        """Return P(good) of each step. Raises Refused, or RequestFailed."""


class ErprmScorer(ServerScorer):
    """A scorer that asks an `erprm serve`, which knows how its PRM is read; no tokenizer is needed here."""

    def __init__(self, connection: ServerConnection, config: EngineConfig, served: ServedPrm) -> None:
        """Raise UserError if the server's PRM is not `config.model`."""
        super().__init__(connection, config)
        self.served, self.format_source, self.served_eta = served, "the server's", served.eta
        if served.model not in (config.model, shipped.resolve(config.model)):
            raise UserError(
                f"{self._client.url} serves {served.model}, not {config.model}; set --prm to the served model"
            )

    @property
    def format_name(self) -> str:
        """The name of the format with which the server reads the PRM."""
        return self.served.format

    def encode(self, row: Row) -> Tagged:
        """Return a Tagged without token ids: the server makes them."""
        return Tagged(np.empty(0, np.int32), np.zeros(len(row["steps"]), np.int32))

    async def _ask(self, job: Job) -> list[float]:
        steps = job.row["steps"]
        body = {"rows": [{"problem": job.row["problem"], "steps": steps}]}
        scores, served = await self._client.ask("/score", body, partial(read_scores, num_steps=len(steps)))
        if served != self.served:
            raise EngineError(
                f"{self._client.url} now serves another PRM ({served.model}, format {served.format}); start "
                "it again with the one that this run began with"
            )
        return scores


class PoolingScorer(ServerScorer):
    """A scorer that asks vLLM, or what speaks its /pooling, for the probabilities of all tokens."""

    def __init__(
        self,
        connection: ServerConnection,
        config: EngineConfig,
        prm_format: str | None = None,
        eta: float | None = None,
    ) -> None:
        """Load the tokenizer of the PRM, and check that the server answers as its format needs."""
        from erprm_cli.prm.loading import load_tagger  # torch, which `erprm serve` does not need

        card, self.tagger = load_tagger(
            config.model, prm_format, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
        self.prm_format = self.tagger.prm_format
        super().__init__(connection, config, card, eta)
        self._config = config
        self._model = config.model  # the server's name for it
        connection.portal.call(self._check_server)

    @property
    def format_name(self) -> str:
        """The name of the format with which the PRM is read."""
        return self.prm_format.name

    def encode(self, row: Row) -> Tagged:
        """Tokenise a solution row. Raises RowError if it cannot be scored."""
        return self.tagger.encode(row["problem"], row["steps"])

    async def _ask(self, job: Job) -> list[float]:
        ids = job.tagged.ids.tolist()
        probability_TC = await self._pool(ids, len(ids))
        self.num_tokens += len(ids)
        return good_of(probability_TC[job.tagged.tags], self.prm_format)

    async def _pool(self, given: str | list[int], num_tokens: int | None = None) -> NDArray[np.float64]:
        """Return the probabilities [T, C] of all tokens of a text, or of token ids."""
        body = {"model": self._model, "input": given, "task": "token_classify", "use_activation": True}
        return await self._client.ask("/pooling", body, partial(read_pooling, num_tokens=num_tokens))

    @property
    def _start(self) -> str:
        """The command that starts a server for this PRM."""
        from erprm_cli.prm.vllm_classifier import start_command

        return start_command(self._config, self.tagger)

    async def _check_server(self) -> None:
        """Find the served model and score one text; UserError if the server has another tokenizer or head."""
        url, reporter = self._client.url, Reporter("score")
        served = await find_served(self._client, self.name, reporter, "--prm")
        if served is not None:
            self._model, self.tagger.max_tokens = served.id, served.max_model_len
        try:
            probability_TC = await self._pool(PROBE)
        except Refused as refusal:
            is_absent = refusal.status in NO_ENDPOINT and not ABOUT_MODEL.search(refusal.reason)
            if is_absent and served is None:
                raise UserError(
                    f"{url} has neither /prm nor /models nor /pooling ({refusal.reason}); --base-url should "
                    f"be an `erprm serve` or a vLLM, such as {suggested_url(url)}"
                ) from None
            if is_absent or "task" in refusal.reason:
                raise UserError(
                    f"{url} does not classify tokens ({refusal.reason}); start it with {self._start}"
                ) from None
            raise self._client.error(refusal) from None
        num_tokens, num_columns = probability_TC.shape
        expected = len(self.tagger.tokenizer(PROBE).input_ids)
        if num_tokens != expected:
            raise UserError(
                f"the tokenizer of {self.name} is not the server's ({expected} and {num_tokens} tokens for "
                "the same text); set --prm to a copy of the model that the server runs"
            )
        if num_columns != columns_of(self.prm_format):
            raise UserError(
                f"{url} gives {num_columns} numbers per token, but the format {self.prm_format.name} (kind "
                f"{self.prm_format.kind}) needs {columns_of(self.prm_format)}; start it with {self._start}"
            )


def columns_of(prm_format: PrmFormat) -> int:
    """Return how many numbers per token vLLM gives for a PRM of this format."""
    return prm_format.num_labels if prm_format.kind == "head" else 1


def good_of(probability_LC: NDArray[np.float64], prm_format: PrmFormat) -> list[float]:
    """Return P(good) of each step, from the probabilities of the classes at its tag, or from that of good."""
    labels = list(prm_format.labels) if prm_format.kind == "head" else [0]
    good_L: list[float] = np.minimum(probability_LC[:, labels].sum(1), 1.0).tolist()
    return good_L


def open_server_scorer(
    config: EngineConfig, prm_format: str | None = None, eta: float | None = None
) -> ServerScorer:
    """Connect to `config.base_url`. Other arguments: see Scorer; errors: see the scorers."""
    connection = connect(config)
    try:
        served = ask_served(connection)
        if served is None:
            return PoolingScorer(connection, config, prm_format, eta)
        for flag, value in (("--prm-format", prm_format), ("--eta", eta)):
            if value is not None:
                raise UsageError(
                    f"{flag}: {connection.client.url} is an `erprm serve`, which decides that; give it there"
                )
        return ErprmScorer(connection, config, served)
    except BaseException:
        connection.close()
        raise


def served_hash(config: EngineConfig, prm_format: str | None) -> str:
    """Return a hash of what `erprm serve` says about its PRM; for vLLM, of the PRM's name and format."""
    with closing(connect(config)) as connection:
        served = ask_served(connection)
    if served is not None:
        return fields_hash(served)
    name = config.model
    return content_hash(name + fields_hash(prm_format_of(name, read_card(name), prm_format)))


def connect(config: EngineConfig) -> ServerConnection:
    """Return a connection to `config.base_url`."""
    assert config.base_url is not None
    return ServerConnection(ServerClient(config.base_url, config.concurrency, report=Reporter("score").info))


def ask_served(connection: ServerConnection) -> ServedPrm | None:
    """Return what an `erprm serve` says about its PRM; None if the server is not one."""
    client = connection.client
    try:
        served: ServedPrm = connection.portal.call(client.get, "/prm", read_prm)
        return served
    except Refused as refusal:
        if refusal.status in NO_ENDPOINT:
            return None
        raise client.error(refusal) from None
