"""A run on a server, whose model is not on this machine, loads neither torch nor transformers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripted_server import completed, serving

MAIN = """
import sys
from erprm_cli.app import main
try:
    main()
finally:
    print("loaded:", *{"torch", "transformers"} & sys.modules.keys(), file=sys.stderr)
"""
SOLUTION = {
    **{"id": "a", "problem": "What is 2 + 3?", "answer": "5", "sample": 0},
    **{"solution": "2 + 3 = 5.\nThe answer is: 5", "steps": ["2 + 3 = 5.", "The answer is: 5"]},
    **{"prediction": "5", "reward": 1.0},
}


@pytest.mark.parametrize("template", [[], ["-t", "math"], ["-t", "math-chat"]], ids=" ".join)
@pytest.mark.parametrize("command", ["sample", "rollout"])
def test_torch_is_not_loaded(command: str, template: list[str], tmp_path: Path) -> None:
    with serving(lambda _, asked: completed(asked)) as server:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, command, "-m", "m", "--base-url", server.url, *template],
            input=json.dumps(SOLUTION),
            env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
        )
    assert server.asked  # whatever this server can do
    assert done.stderr.endswith("loaded:\n")
