import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from erprm_cli.app import make_app


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
