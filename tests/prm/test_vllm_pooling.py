"""PRMs of every kind in a real vLLM: the scores equal those of transformers, here and through a server."""

import shlex
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.engines.config import EngineConfig
from erprm_cli.prm.loading import load_tagger
from erprm_cli.prm.scoring import open_scorer
from erprm_cli.prm.vllm_classifier import start_command
from tests.prm.prm_kinds import KINDS
from tests.tiny_models import solution_rows
from tests.vllm_server import VllmServer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]

ROWS = solution_rows(24)


def check(config: EngineConfig, prm_format: str | None, expected: Iterable[dict[str, Any]]) -> None:
    """Score ROWS with what `config` names; the rows must be the expected ones, in order."""
    scorer = open_scorer(config, 0, prm_format)
    try:
        scored = list(scorer.score(ROWS))
    finally:
        scorer.close()
    every = []
    for ours, theirs in zip(scored, expected, strict=True):
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-5)
        assert ours | {"scores": None} == theirs | {"scores": None}
        every += ours["scores"]
    assert max(every) - min(every) > 0.05


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    make, prm_format = KINDS[kind]
    prm = make(tmp_path / kind)
    expected = list(open_scorer(EngineConfig(prm, "transformers"), 0, prm_format).score(ROWS))
    check(EngineConfig(prm, "vllm", enforce_eager=True), prm_format, expected)


@pytest.mark.parametrize(
    "kind", ["qwen-math-prm", *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("token", "trl"))]
)
def test_a_server_started_as_erprm_says(kind: str, tmp_path: Path) -> None:
    make, prm_format = KINDS[kind]
    prm = make(tmp_path / kind)
    tagger = load_tagger(prm, prm_format)[1]
    _, _, name, *arguments = shlex.split(start_command(EngineConfig(prm), tagger).strip("`"))
    # Qwen's architecture with words as tokens: transformers would read the words with Qwen's own class.
    tagger.tokenizer.save_pretrained(tmp_path / "tokenizer")
    server = VllmServer(tmp_path, name, *arguments, "--tokenizer", str(tmp_path / "tokenizer"))
    try:
        expected = list(open_scorer(EngineConfig(prm, "transformers"), 0, prm_format).score(ROWS))
        server.wait()
        check(EngineConfig(prm, base_url=server.url), prm_format, expected)
    finally:
        server.kill()
