"""Which messages of the code no test produces: `pytest --messages`, a part of `make test`.

A message is a call that makes an error of erprm_cli/errors.py or a warning. One that no test can produce says
why, in a comment within the call: `# no test: needs a GPU`.
"""

import ast
import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from erprm_cli import errors
from tests.messages.sitecustomize import TARGET

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
    """Return whether a call of `function` makes an error, or warns."""
    if isinstance(function, ast.Name):
        return function.id in ERRORS
    return isinstance(function, ast.Attribute) and function.attr == "warn"


def not_produced(places: Path, root: Path = ROOT) -> list[Message]:
    """Return the messages that are not among the FILE:LINE in the file `places`."""
    found = {tuple(line.rsplit(":", 1)) for line in places.read_text().splitlines()}
    return [
        message
        for message in messages(root)
        if not any((str(message.path), str(n)) in found for n in range(message.begin, message.end + 1))
    ]


# The plugin


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--messages", action="store_true", help="list the messages that no test produced; an error if any"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin to write down; the processes of xdist, and programs that tests start, write to the same file.

    Runs with the same $ERPRM_MESSAGES, an empty file at first, add up.
    """
    if not config.getoption("--messages"):
        return
    if TARGET not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="erprm-messages-")
        config.add_cleanup(folder.cleanup)
        places = Path(folder.name) / "places"
        places.touch()
        os.environ[TARGET] = str(places)
    if not hasattr(config, "workerinput"):
        path = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
    from tests.messages import sitecustomize

    sitecustomize.install()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--messages") and not hasattr(config, "workerinput"):
        left = not_produced(Path(os.environ[TARGET]))
        terminalreporter.section(f"{len(left)} messages that no test produced")
        for message in left:
            terminalreporter.line(str(message))


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if config.getoption("--messages") and not hasattr(config, "workerinput") and session.exitstatus == 0:
        if not_produced(Path(os.environ[TARGET])):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
