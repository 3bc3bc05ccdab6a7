"""What /metrics tells Prometheus about the service."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TOKENS = tuple(2.0**power for power in range(6, 19))


class Metrics:
    """Counts of one service, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("erprm_requests", "Requests answered", ["path", "status"], registry=registry)
        self.request_seconds = Histogram(
            "erprm_request_seconds",
            "Seconds from the headers of a request to its answer",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.solutions = Counter("erprm_solutions", "Solutions scored", registry=registry)
        self.tokens = Counter("erprm_tokens", "Tokens of the solutions scored", registry=registry)
        self.batch_tokens = Histogram(
            "erprm_batch_tokens",
            "Tokens scored together, without padding",
            buckets=TOKENS,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "erprm_batch_seconds",
            "Seconds from the choice of a batch to its scores",
            buckets=SECONDS,
            registry=registry,
        )
        self.accepted = Gauge("erprm_accepted", "Solutions accepted and not yet answered", registry=registry)

    def text(self) -> bytes:
        """Return all counts in Prometheus' text format."""
        return generate_latest(self._registry)
