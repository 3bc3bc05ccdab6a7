"""Scoring through a real `vllm serve`, started with the command that erprm's error names."""

import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from erprm_cli.engines.config import EngineConfig
from erprm_cli.prm.loading import load_tagger
from erprm_cli.prm.scoring import open_scorer
from erprm_cli.prm.vllm_scorer import start_command
from tests.prm.test_vllm_scorer import save_prm, solutions
from tests.vllm_server import VllmServer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]


def test_scores_of_a_vllm_server_equal_those_of_transformers(tmp_path: Path) -> None:
    prm = str(save_prm(tmp_path / "prm", None))
    _, _, name, *arguments = shlex.split(start_command(EngineConfig(prm), load_tagger(prm)[1]).strip("`"))
    server = VllmServer(tmp_path, name, *arguments)
    try:
        rows = solutions()
        expected = list(open_scorer(EngineConfig(prm, "transformers")).score(rows))
        server.wait()
        scorer = open_scorer(EngineConfig(prm, base_url=server.url))
        scored = list(scorer.score(rows))
        scorer.close()
    finally:
        server.kill()
    assert [row["id"] for row in scored] == [row["id"] for row in rows]  # in order
    for ours, theirs in zip(scored, expected, strict=True):
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-5)
        assert ours | {"scores": None} == theirs | {"scores": None}
