"""Run the service: load the PRM, listen, and end cleanly."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn

from erprm_cli import __version__
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import provenance
from erprm_cli.errors import UsageError, UserError
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.prm.card import trained_at
from erprm_cli.prm.scorer import Scorer
from erprm_cli.prm.scoring import LazyScorer
from erprm_cli.serving.app import make_app
from erprm_cli.serving.batching import Batcher
from erprm_cli.serving.config import ServiceConfig
from erprm_cli.serving.guard import Guard, PatientProtocol
from erprm_cli.serving.metrics import Metrics
from erprm_cli.serving.schema import Prm
from erprm_cli.serving.service import Service
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.terminal.signals import stop_calls

KEY_NAME = "ERPRM_API_KEY"
KEEP_ALIVE_S = 75  # longer than clients and proxies keep idle connections, so that they close them first


def serve_prm(prm: LazyScorer, config: ServiceConfig, template: PolicyTemplate, reporter: Reporter) -> None:
    """Serve a PRM until SIGINT or SIGTERM; then answer what was accepted, and return.

    `template` is that of `config`. Raises UserError if the address cannot be used, UsageError for a key that
    no header can hold, EngineError if the engine fails.
    """
    key = api_key()
    with closing(bound_socket(config.host, config.port)) as listener, closing(prm):
        scorer = prm.scorer
        assert isinstance(scorer, Scorer)  # there is no --base-url
        prm.report_format(scorer, reporter)
        if key is None and not is_local(listener):
            reporter.warn(f"everybody who reaches {url_of(listener)} can use it; {KEY_NAME} sets a key")
        server = make_server(scorer, described(scorer, prm.config), config, template, key, reporter)
        server.run(sockets=[listener])
        if server.batcher.failure is not None:
            raise server.batcher.failure


def make_server(
    scorer: Scorer,
    prm: Prm,
    config: ServiceConfig,
    template: PolicyTemplate,
    key: str | None = None,
    reporter: Reporter | None = None,
) -> "Server":
    """Return the server of a loaded PRM, described by `prm`; clients must send `key` unless it is None."""
    metrics = Metrics()
    batcher = Batcher(scorer, config.max_queue, metrics)
    guard = Guard(
        make_app(Service(batcher, prm, template, config.aggregate), config.timeout_s),
        key=key,
        max_body_bytes=int(config.max_body_mb * 1e6),
        timeout_s=config.timeout_s,
        metrics=metrics,
    )
    return Server(guard, batcher, config.timeout_s, reporter or Reporter("serve", quiet=True))


class Server(uvicorn.Server):
    """uvicorn, which here reports through `reporter` and leaves erprm's handling of signals as it is."""

    def __init__(self, app: Guard, batcher: Batcher, timeout_s: float, reporter: Reporter) -> None:
        """Prepare to run `app`, which scores with `batcher`."""
        self.batcher, self.reporter = batcher, reporter
        logging.getLogger("uvicorn").setLevel(logging.ERROR)  # bugs; not each request that is not HTTP
        super().__init__(
            uvicorn.Config(
                app,
                http=PatientProtocol,  # h11's: it limits the size of headers
                ws="none",
                loop="asyncio",  # uvloop takes the descriptor by which erprm counts signals
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(2 * timeout_s) + 1,  # to receive and to score
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        url = url_of(self.servers[0].sockets[0])
        self.reporter.info(f"listening on {url}; {url}/docs shows the API")

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end: told so, or the engine has failed."""
        return await super().on_tick(counter) or self.batcher.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted, then return."""
        self.reporter.info("stopping; what was accepted is answered first")
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let the first signal end the server; the second ends the process at once."""
        with stop_calls(self._stop):
            yield

    def _stop(self) -> None:
        self.should_exit = True


def described(scorer: Scorer, config: EngineConfig) -> Prm:
    """Return what clients are told about a loaded PRM."""
    content = config.content()
    eta = trained_at(scorer.name) if scorer.eta is None else scorer.eta
    return Prm(
        model=scorer.name,
        format=scorer.prm_format.name,
        kind=scorer.prm_format.kind,
        eta=eta if eta is not None and abs(eta) < float("inf") else None,
        outcome_only=scorer.outcome_only,
        max_tokens=scorer.tagger.max_tokens,
        hash=provenance(scorer, config)["commit"] if content is None else content.hash(),
        erprm=__version__,
    )


def api_key() -> str | None:
    """Return the key that clients must send, from the environment; None: they need none."""
    key = os.environ.get(KEY_NAME, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"the key in {KEY_NAME} contains an invalid character")
    return key or None


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket at an address; it does not listen yet. Raises UserError if the address is not free."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UserError(
            f"cannot listen: {error.strerror}",
            where=f"{host}:{port}",
            remedy="choose another --host or --port",
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Return whether only this machine reaches a bound socket."""
    host: str = listener.getsockname()[0]
    return host == "::1" or host.startswith("127.")
