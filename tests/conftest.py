import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import hypothesis
import pytest
from typer.testing import CliRunner, Result

from erprm_cli.app import make_app
from erprm_cli.engines import server_client

pytest_plugins = ["tests.messages.coverage"]

hypothesis.settings.register_profile("erprm", deadline=None)  # a busy machine is not a fault of the code
hypothesis.settings.load_profile("erprm")


def pytest_configure(config: pytest.Config) -> None:
    """Give these tests caches of their own: what was kept before changes what is said and done.

    `datasets` reads its variable when it is imported, which collecting the modules already does.
    """
    for variable in ("HF_DATASETS_CACHE", "XDG_CACHE_HOME"):
        cache = tempfile.TemporaryDirectory(prefix="erprm-cache-")
        config.add_cleanup(cache.cleanup)
        os.environ[variable] = cache.name


@pytest.fixture
def erprm() -> Callable[..., Result]:
    """Run the program in process: erprm("label", "--eta", "2", stdin=text)."""

    def run(*args: object, stdin: str | bytes = "") -> Result:
        return CliRunner().invoke(make_app(), [str(arg) for arg in args], input=stdin)

    return run


@pytest.fixture
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the program as a process of its own: exit status, stdout and stderr as a shell sees them."""

    def run(*args: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "erprm_cli", *map(str, args)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True)

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no key and no Hub, and wait next to no time between two tries."""
    monkeypatch.setattr(server_client, "BACKOFF_S", 0.01)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in server_client.KEY_NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Keep the garbage collector, which looks at the objects of all tests before, out of a measured time."""
    gc.disable()
    yield
    gc.enable()
