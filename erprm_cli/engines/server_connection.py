"""A server's client for callers that are not asynchronous: its event loop runs in a thread of its own."""

from contextlib import ExitStack, suppress

from anyio.from_thread import start_blocking_portal

from erprm_cli.engines.server_client import ServerClient


class _Closed(Exception):
    """Raised by `close` to cancel the tasks of the portal."""


class ServerConnection:
    """An open ServerClient; its coroutines are called through `portal`."""

    def __init__(self, client: ServerClient) -> None:
        """Open `client`; nothing is sent yet."""
        self.client = client
        self._open = ExitStack()
        self.portal = self._open.enter_context(start_blocking_portal(name="erprm-server"))
        self._open.enter_context(self.portal.wrap_async_context_manager(self.client))

    def close(self) -> None:
        """Cancel the requests in flight and close the connections."""
        # Only an exception makes the portal cancel its tasks instead of waiting for them.
        with suppress(_Closed), self._open:
            raise _Closed
