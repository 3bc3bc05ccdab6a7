"""A search with policy and PRM in vLLM, on its CPU build."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.prm.test_vllm_scorer import save_prm

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.thorough,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]


def test_a_search_in_vllm_reads_only_what_is_new(
    erprm: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    found, prm = tmp_path / "found.jsonl", save_prm(tmp_path / "prm", None)
    words = ("search", "tiny:test", "-L", 6, "-n", 4, "--prm", prm, "--temperature", 1.3, "-o", found)
    done = erprm(*words, "--engine", "vllm", "--prm-engine", "vllm", "--enforce-eager")
    assert done.exception is None, done.stderr
    rows = [json.loads(line) for line in found.read_text().splitlines()]
    assert len(rows) == 24 and {row["finish_reason"] for row in rows} == {"stop"}
    assert all(row["steps"] == row["solution"].split("\n") for row in rows)
    again = erprm("score", found, "--prm", prm)
    expected = {
        (row["id"], row["sample"]): row["scores"] for row in map(json.loads, again.stdout.splitlines())
    }
    for row in rows:
        assert row["scores"] == pytest.approx(expected[row["id"], row["sample"]], abs=1e-5)
    whole = sum({row["id"]: row["search"]["prm_tokens"] for row in rows}.values())
    read = int(done.stderr.rpartition("the PRM read ")[2].partition(" tokens")[0].replace(",", ""))
    assert read < 0.7 * whole
