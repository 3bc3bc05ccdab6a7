import subprocess
import sys

import pytest

from tests.torture.__main__ import PARTS, TRIES

pytestmark = pytest.mark.torture


@pytest.mark.parametrize("part", [*PARTS, *TRIES])
def test_nothing_is_lost_made_twice_or_ends_in_a_traceback(part: str) -> None:
    command = [sys.executable, "-m", "tests.torture", "--short", part]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    faults = "lost 0, duplicated 0, tracebacks 0, hangs 0, written outside 0, control codes 0"
    assert f"{faults}, hostile answers judged right 0" in done.stdout
