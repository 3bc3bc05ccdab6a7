"""A server's client for callers that are not asynchronous: its event loop runs in a thread of its own."""

from collections.abc import Callable
from contextlib import ExitStack, suppress

from anyio.from_thread import start_blocking_portal

from erprm_cli.engines.server_client import READ_TIMEOUT_S, ServerClient


class _Closed(Exception):
    """The connection is no longer wanted."""


class ServerConnection:
    """An open ServerClient; its coroutines are called through `portal`."""

    def __init__(
        self,
        base_url: str,
        max_connections: int,
        read_timeout_s: float = READ_TIMEOUT_S,
        report: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Take the arguments of ServerClient; nothing is sent yet."""
        self.client = ServerClient(base_url, max_connections, read_timeout_s, report)
        self._open = ExitStack()
        self.portal = self._open.enter_context(start_blocking_portal(name="erprm-server"))
        self._open.enter_context(self.portal.wrap_async_context_manager(self.client))

    def close(self) -> None:
        """Cancel the requests in flight and close the connections."""
        # Only an exception makes the portal cancel its tasks instead of waiting for them.
        with suppress(_Closed), self._open:
            raise _Closed
