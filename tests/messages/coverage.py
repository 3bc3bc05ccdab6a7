"""Which messages of the code no test produces: `pytest --messages`, a part of `make test-all`.

A message is a call that makes an error of erprm_cli/errors.py, a warning, a note, or another line (`say`).
One that no test can produce says why, in a comment within the call: `# no test: needs a GPU`.

The suite may run in pieces: those with one `--messages-file FILE` add up, and the last lists what is left.
"""

import ast
import os
import socket
import tempfile
import threading
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from erprm_cli import errors
from tests.messages.sitecustomize import ADDRESS

ROOT = Path(__file__).parents[2]
ERRORS = {
    name
    for name, made in vars(errors).items()
    if isinstance(made, type) and issubclass(made, errors.Explained)
}
EXCUSE = "# no test: "


class Message(NamedTuple):
    """A call that makes a message: its file, its first and last line, and its source."""

    path: Path
    begin: int
    end: int
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.begin}: {' '.join(self.source.split())}"


LISTENER, LEFT = pytest.StashKey["Listener"](), pytest.StashKey[list[Message]]()


def messages(root: Path = ROOT) -> Iterator[Message]:
    """Yield every message of the code that has no excuse; those about vLLM only where it is installed."""
    has_vllm = find_spec("vllm") is not None
    for path in sorted((*root.glob("erprm_cli/**/*.py"), *root.glob("commands/*.py"))):
        if path.name.startswith("vllm_") and not has_vllm:
            continue
        text = path.read_text()
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and is_message(node.func):
                end = node.end_lineno or node.lineno
                if not any(EXCUSE in line for line in lines[node.lineno - 1 : end]):
                    source = ast.get_source_segment(text, node) or ""
                    yield Message(path, node.lineno, end, source)


def is_message(function: ast.expr) -> bool:
    """Return whether a call of `function` makes an error, a warning, a note or a line."""
    if isinstance(function, ast.Name):
        return function.id in ERRORS or function.id == "say"
    return isinstance(function, ast.Attribute) and function.attr in ("warn", "info")


def not_produced(places: Iterable[str], root: Path = ROOT) -> list[Message]:
    """Return the messages that are not among the FILE:LINE in `places`."""
    found = {tuple(place.rsplit(":", 1)) for place in places}
    return [
        message
        for message in messages(root)
        if not any((str(message.path), str(n)) in found for n in range(message.begin, message.end + 1))
    ]


class Listener:
    """Collects the FILE:LINE that `sitecustomize` sends, from this process and from others.

    A socket, and not a file: tests limit the size of files, count those that are open and watch which are
    written.
    """

    def __init__(self) -> None:
        self.places: set[str] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="erprm-messages-")
        self.address = str(Path(self._folder.name) / "socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._listen, name="messages", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while place := self._socket.recv(1 << 16):
            self.places.add(place.decode())

    def close(self) -> None:
        """End when all that was sent so far is collected."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self.address)
        self._thread.join()
        self._socket.close()
        self._folder.cleanup()


# The plugin


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--messages", action="store_true", help="list the messages that no test produced; an error if any"
    )
    parser.addoption(
        "--messages-file",
        type=Path,
        metavar="FILE",
        help="with --messages: add what the tests produced to FILE, and count what FILE has",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin to collect; the processes of xdist, and programs that tests start, send to the same socket."""
    if not config.getoption("--messages"):
        return
    if not hasattr(config, "workerinput"):
        config.stash[LISTENER] = listener = Listener()
        os.environ[ADDRESS] = listener.address
        path = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
    from tests.messages import sitecustomize

    sitecustomize.install()


@pytest.hookimpl(trylast=True)  # when the processes of xdist have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if (listener := config.stash.get(LISTENER, None)) is None:
        return
    listener.close()
    places, file = listener.places, config.getoption("--messages-file")
    if file is not None:
        if file.exists():
            places |= set(file.read_text().splitlines())
        file.write_text("".join(f"{place}\n" for place in sorted(places)))
    config.stash[LEFT] = not_produced(places)
    if config.stash[LEFT] and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if (left := config.stash.get(LEFT, None)) is not None:
        terminalreporter.section(f"{len(left)} messages that no test produced")
        for message in left:
            terminalreporter.line(str(message))
