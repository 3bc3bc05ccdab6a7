"""What `erprm doctor` finds is what is there."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.engines.config import EngineConfig
from erprm_cli.packages import install_command
from erprm_cli.reports import environment
from erprm_cli.reports.environment import FAILED, INFO, MISSING, OK


def found(monkeypatch: pytest.MonkeyPatch, config: EngineConfig | None = None) -> dict[str, Any]:
    """Return the findings by part; vLLM, whose import takes 20 s, is left out."""
    absent = find_spec
    monkeypatch.setattr(environment, "find_spec", lambda name: None if name == "vllm" else absent(name))
    return {finding.part: finding for finding in environment.findings(config or EngineConfig())}


def test_versions_memory_and_the_default_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    import transformers

    parts = found(monkeypatch)
    assert parts["torch"].detail == torch.__version__
    assert parts["transformers"].detail == transformers.__version__
    assert parts["engine transformers"].state == OK
    assert parts["engine server"].state == INFO
    assert parts["vllm"].state == parts["engine vllm"].state == MISSING
    assert parts["vllm"].remedy == install_command("vllm")
    free, total = (float(part.split()[0]) for part in parts["memory"].detail.split(" free of "))
    assert 0 < free <= total
    assert ("GPU 0" in parts) == torch.cuda.is_available()


def test_a_broken_model_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    finding = found(monkeypatch, EngineConfig(str(tmp_path)))["engine transformers"]
    assert finding.state == FAILED
    assert str(tmp_path) in finding.detail and "\n" not in finding.detail


@pytest.mark.slow
def test_rows_in_a_pipe_and_the_status_of_a_failure(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    command = [sys.executable, "-m", "erprm_cli", "doctor", "-q", "-m", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["state"] for row in rows} <= {OK, INFO, MISSING, FAILED}
    assert all(row.keys() == {"part", "state", "detail", "remedy"} for row in rows)
    assert done.returncode == 1
    assert done.stderr == "erprm: engine transformers: failed; see above\n"
