import subprocess
import sys

import pytest

pytestmark = pytest.mark.torture


@pytest.mark.parametrize("part", ["kills", "truncations", "corruptions", "answers", "rows"])
def test_nothing_is_lost_and_nothing_made_twice(part: str) -> None:
    command = [sys.executable, "-m", "tests.torture", "--short", part]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lost 0, duplicated 0, tracebacks 0, hostile answers judged right 0" in done.stdout
